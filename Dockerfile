# The gateway in a container: Python, the package and nothing else; it runs as user 10001 and writes to /data only.
#
#   docker build --tag sidegate .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     --volume sidegate-data:/data --publish 127.0.0.1:8080:8080 sidegate
#
# docs/container.md says more: your own config and plugins, keys, health.

ARG PYTHON=3.13-slim

FROM python:${PYTHON} AS builder
WORKDIR /build
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY service service
COPY plugins plugins
# Of setup.cfg: speed, postgres, redis, jwt, otel.
ARG EXTRAS
RUN python -m venv /opt/sidegate
RUN /opt/sidegate/bin/python -m pip install --no-cache-dir --disable-pip-version-check ".[${EXTRAS:-speed}]"
# What installs packages stays behind.
RUN /opt/sidegate/bin/python -m pip uninstall --quiet --yes pip

FROM python:${PYTHON}
RUN groupadd --gid 10001 sidegate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin sidegate \
    && install --directory --owner 10001 --group 10001 --mode 0700 /data \
    && install --directory /config /plugins
COPY --from=builder /opt/sidegate /opt/sidegate
COPY config/container.yaml /config/sidegate.yaml
ENV PATH=/opt/sidegate/bin:$PATH \
    PYTHONPATH=/plugins \
    PYTHONDONTWRITEBYTECODE=1 \
    SIDEGATE_HEALTH=http://127.0.0.1:8080/livez
WORKDIR /data
VOLUME /data
EXPOSE 8080 8081
USER 10001:10001
# Not through a proxy that the environment may name for providers.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['SIDEGATE_HEALTH'], timeout=2)"]
ENTRYPOINT ["sidegate"]
CMD ["serve", "/config/sidegate.yaml"]
