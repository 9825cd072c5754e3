FROM python:3.12-slim-bookworm
WORKDIR /srv/portico
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY portico ./portico
COPY service ./service
RUN useradd --system portico
USER portico
ENV ENVIRONMENT=production
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "service", "serve"]
