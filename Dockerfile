# mondegreen with its pinned requirements: the server, and with another command everything else (docs/serving.md).
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HUB_DISABLE_TELEMETRY=1 MLFLOW_DISABLE_TELEMETRY=true
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin mondegreen \
    && mkdir -p /srv/mondegreen/var /srv/mlflow \
    && chown -R mondegreen /srv/mondegreen /srv/mlflow

WORKDIR /opt/mondegreen
COPY pyproject.toml constraints.txt README.md LICENSE ./
# what `mondegreen init` makes projects of; links in src lead there
COPY params.yaml dvc.yaml params.schema.json phrases.yaml Dockerfile compose.yaml ./
COPY lm/README.md ./lm/
COPY starter/model ./starter/model
COPY starter/heldout ./starter/heldout
COPY starter/replay ./starter/replay
COPY src ./src
# a worker of a cluster (docs/scale.md): --build-arg EXTRAS=av,cluster,gcp
ARG EXTRAS=av
RUN pip install --constraint constraints.txt ".[$EXTRAS]"

# The project's folder: what serves is set by params.yaml, live state is in var/, a volume.
WORKDIR /srv/mondegreen
COPY params.yaml ./
USER mondegreen
VOLUME ["/srv/mondegreen/var", "/srv/mlflow"]
EXPOSE 8378

HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8378/healthz', timeout=3)"]
ENTRYPOINT ["mondegreen"]
CMD ["serve", "--host", "0.0.0.0"]
