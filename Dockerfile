FROM python:3.12-slim-bookworm
WORKDIR /srv/portico
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt && useradd --system --no-create-home portico
COPY portico ./portico
COPY service ./service
COPY docker/entrypoint.sh ./docker/entrypoint.sh
USER portico
ENV ENVIRONMENT=production
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/srv/portico/docker/entrypoint.sh", "healthy"]
ENTRYPOINT ["/srv/portico/docker/entrypoint.sh"]
CMD ["serve"]
