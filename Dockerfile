# Cloud and authority are one image; `compose.yaml` and docs/deploy/README.md say how to run it.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY jcbir jcbir
RUN python -m venv /opt/jcbir && /opt/jcbir/bin/pip install --no-cache-dir '.[cli,fast,serve]'

FROM python:3.12-slim
COPY --from=build /opt/jcbir /opt/jcbir
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin jcbir && install -d -o jcbir -g jcbir -m 700 /data
ENV PATH=/opt/jcbir/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JAX_PLATFORMS=cpu \
    JCBIR_CACHE=/data/cache
USER 10001
WORKDIR /data
VOLUME /data
# Requests at hand are finished on SIGTERM; `drain-seconds` says for how long.
STOPSIGNAL SIGTERM
ENTRYPOINT ["jcbir"]
CMD ["--help"]
