# syntax=docker/dockerfile:1
# One image with both programs: `gateway` (default) and `booking-worker`.
#
# There was no container engine where this was written. It was checked with hadolint only; the
# programs inside were built and run outside a container, on the same Debian release.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep the registry and the dependencies between builds; the programs are copied out
# because a cache is not part of the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package gateway --package booking-worker \
    && install --strip --target-directory=/usr/local/bin \
        target/release/gateway target/release/booking-worker

FROM debian:bookworm-slim
# The folder exists in the image, owned by the programs' user, so that a new volume mounted there
# is writable for it.
RUN groupadd --system --gid 10001 slotrush \
    && useradd --system --uid 10001 --gid slotrush --no-create-home --shell /usr/sbin/nologin slotrush \
    && install --directory --owner=slotrush --group=slotrush --mode=0700 /keys
COPY --from=build /usr/local/bin/gateway /usr/local/bin/booking-worker /usr/local/bin/
COPY --chmod=0755 deploy/healthcheck deploy/keygen-once /usr/local/bin/
USER 10001:10001
# Where the keys lie, not the keys.
# hadolint ignore=DL3064
ENV SLOTRUSH_TOKEN_KEY_FILE=/keys/token-key.pem \
    SLOTRUSH_DATA_KEY_FILE=/keys/data-key
EXPOSE 8080 8081 8082
STOPSIGNAL SIGTERM
CMD ["gateway"]
