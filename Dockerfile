# syntax=docker/dockerfile:1
# The image that `make image` builds: the binary on a base with a C library, CA certificates and nothing to run besides.

FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --locked --profile dist --bin landfast && cp target/dist/landfast /landfast

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="landfast" \
      org.opencontainers.image.description="Container registries on Kubernetes: operator and OCI registry in one binary" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /landfast /usr/local/bin/landfast
# By number: Kubernetes can't tell that a name is not root's.
USER 65532:65532
# Registry, health.
EXPOSE 5000 8080
ENTRYPOINT ["/usr/local/bin/landfast"]
