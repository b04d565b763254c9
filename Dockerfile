# Container image: the exporter in a virtual environment on Debian's slim Python image, without pip.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" -t taskrouter-exporter .
#
# The build does not depend on the architecture: `docker buildx build --platform=linux/amd64,linux/arm64` builds both.
# To build behind a proxy or with a package mirror, pass pip's settings as secrets, which are not stored in the image:
#   --secret id=pip.conf,src=pip.conf --secret id=ca.pem,src=ca.pem    (pip.conf: cert = /run/secrets/ca.pem)

# Base image. Override it with --build-arg PYTHON_IMAGE=…: any image with Python 3.11 or newer and the venv module.
ARG PYTHON_IMAGE=pinned

# A stage of its own, because Dependabot updates tags in FROM but not in ARG.
FROM python:3.13.16-slim-trixie AS pinned


FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# pip runs from a separate environment, so that it is not part of the exporter's.
RUN python3 -m venv pip && python3 -m venv --without-pip /opt/taskrouter-exporter
COPY requirements.txt requirements-build.txt ./
# Wheels only: building an sdist would install its build dependencies without verifying hashes.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem \
    pip/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements-build.txt && \
    pip/bin/pip --python /opt/taskrouter-exporter/bin/python \
        install --no-cache-dir --require-hashes --only-binary=:all: -r requirements.txt
COPY pyproject.toml README.md LICENSE config.example.yaml ./
COPY docs/config.schema.json docs/
COPY contrib contrib
COPY monitoring/dashboards monitoring/dashboards
COPY monitoring/rules monitoring/rules
COPY taskrouter_exporter taskrouter_exporter
ARG REVISION=unknown
RUN printf '%s\n' "${REVISION}" > taskrouter_exporter/REVISION && \
    pip/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir dist . && \
    pip/bin/pip --python /opt/taskrouter-exporter/bin/python install --no-cache-dir --no-index --no-deps dist/*.whl


FROM ${PYTHON_IMAGE} AS root
COPY --from=build /opt/taskrouter-exporter /opt/taskrouter-exporter
# The last command compiles the modules of the standard library that the exporter imports. The base image contains no
# bytecode, and a read-only container would compile them at every startup.
RUN find /usr -depth \( -name ensurepip -o -name pip -o -name 'pip[-0-9]*' -o -name 'setuptools-*' \) \
        -exec rm -r {} + && \
    /opt/taskrouter-exporter/bin/taskrouter-exporter --version


# A single layer from scratch: files deleted above would still be present in a layer of the base image. DL3067 warns of
# copying a whole root file system, which is intended here.
FROM scratch
# hadolint ignore=DL3067
COPY --from=root / /
ENV PATH=/opt/taskrouter-exporter/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Relative paths of --config.file and --web.config.file refer to this directory.
WORKDIR /etc/taskrouter-exporter
USER 65532:65532
EXPOSE 10142
# TASKROUTER_EXPORTER_HEALTH_URL replaces the URL, for an exporter that listens on another address.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-P", "-m", "taskrouter_exporter.healthcheck"]
ENTRYPOINT ["taskrouter-exporter"]

ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="taskrouter-exporter" \
      org.opencontainers.image.description="Prometheus exporter for Twilio TaskRouter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
