# Two images from one file, without a byte fetched at run time:
#   docker build --tag manet:cpu .                    OpenVINO on processors, without PyTorch (the default)
#   docker build --tag manet:cuda --target cuda .     PyTorch on an NVIDIA GPU
# TORCH_INDEX names the package index that the target cuda takes PyTorch from. Empty, it is the ordinary index, whose
# build brings CUDA's libraries along (5.5 GB).

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
SHELL ["/bin/sh", "-eu", "-c"]
# The base image has no compiled standard library, and the root of a container is read-only: without this each health
# check compiles what it imports, for 0.2 s of CPU.
RUN python -m compileall -q -x 'lib2to3/tests|/test/' "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"


FROM base AS wheel
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY manet manet
COPY service service
COPY training training
RUN PIP_CONSTRAINT=/source/constraints.txt python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .


# What the target cpu runs.
FROM base AS slim-packages
WORKDIR /source
COPY constraints.txt ./
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel=$(echo /wheels/manet-*.whl) \
    && python -m venv --without-pip /opt/manet \
    && python -m pip --python /opt/manet/bin/python install --no-cache-dir --constraint constraints.txt "${wheel}[otel]"


# What the target cuda runs.
FROM base AS full-packages
ARG TORCH_INDEX=
WORKDIR /source
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/manet \
    && if [ -n "${TORCH_INDEX}" ]; then \
        python -m pip --python /opt/manet/bin/python install --no-cache-dir --constraint constraints.txt \
            --index-url "${TORCH_INDEX}" --no-deps torch; \
    fi \
    && python -m pip --python /opt/manet/bin/python install --no-cache-dir --constraint constraints.txt torch
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel=$(echo /wheels/manet-*.whl) \
    && python -m pip --python /opt/manet/bin/python install --no-cache-dir --constraint constraints.txt "${wheel}[explain,gpu,otel]"


FROM base AS runtime
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0-* \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && groupadd --gid 10001 manet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin manet
COPY docker/healthcheck.py /opt/healthcheck.py
# After what takes long, so that a release does not run it again.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="manet" \
      org.opencontainers.image.description="Apparent facial expressions in images, by MA-Net, over HTTP." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/manet/bin:${PATH} \
    HOME=/tmp \
    MANET_HOST=0.0.0.0
EXPOSE 8000
# Nothing is written: the root file system may be read-only.
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["manet-serve"]


FROM runtime AS cuda
COPY --from=full-packages /opt/manet /opt/manet
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility


FROM runtime AS cpu
COPY --from=slim-packages /opt/manet /opt/manet
ENV MANET_BACKEND=openvino
