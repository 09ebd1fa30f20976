# Makes an image of Salient's server and client. `docker build -t salient .`, or without an engine
# `deploy/build_image.sh`.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY deploy/install_dependencies.sh deploy/
RUN deploy/install_dependencies.sh build
COPY CMakeLists.txt CMakePresets.json ./
COPY proto proto
COPY core core
COPY server server
COPY client client
RUN cmake --preset release -DSALIENT_TESTS=OFF -DSALIENT_BENCH=OFF \
 && ninja -C build/release salient salientd \
 && strip build/release/salient build/release/salientd
# The packages of the libraries that the two programs name; apt adds what those need. No list to
# keep by hand, and none that another release would make wrong.
RUN objdump -p build/release/salient build/release/salientd | awk '/NEEDED/ {print $2}' | sort -u \
  | while read -r library; do \
      dpkg-query -S "*/$library" | head -n 1 || { echo "no package has $library" >&2; exit 1; }; \
    done | cut -d: -f1 | sort -u > runtime_packages

FROM ${BASE}
# The user is written by hand: useradd would leave the date of the build behind.
RUN --mount=type=bind,from=build,source=/src/runtime_packages,target=/tmp/runtime_packages \
    apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive xargs apt-get install -q -y --no-install-recommends < /tmp/runtime_packages \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
      /var/cache/ldconfig/aux-cache /var/log/* \
 && echo 'salient:x:10001:10001:Salient:/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'salient:x:10001:' >> /etc/group \
 && install -d -o 10001 -g 10001 /var/lib/salient
COPY --from=build /src/build/release/salient /src/build/release/salientd /usr/local/bin/

LABEL org.opencontainers.image.title="salient" \
      org.opencontainers.image.description="Quantizes large language models as a service, on CPUs"
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8443 9464
# Blobs and the working files of jobs: the one place that is written to.
VOLUME /var/lib/salient
HEALTHCHECK --interval=15s --timeout=6s --start-period=15s --retries=3 \
  CMD ["/usr/local/bin/salient", "health", "--server", "127.0.0.1:8443"]
ENTRYPOINT ["/usr/local/bin/salientd"]
CMD ["--listen", "0.0.0.0:8443", "--metrics-listen", "0.0.0.0:9464", "--store-directory", "/var/lib/salient"]
