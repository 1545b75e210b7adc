FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends pgbouncer && rm -rf /var/lib/apt/lists/*
COPY pgbouncer.sh /pgbouncer.sh
USER postgres
CMD ["/bin/sh", "/pgbouncer.sh"]
