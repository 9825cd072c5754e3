"""Publishing from back ends: `Publisher` for blocking programs, `AsyncPublisher` for asyncio and trio."""
