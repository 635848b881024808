# The same image from a binary that was built outside, for machines that reach no registry:
#
#   cargo build --release -p trunkline && cp target/release/trunkline deploy/docker/prebuilt/
#   docker build -f deploy/docker/prebuilt.Dockerfile -t trunkline .
#
# debian:trixie-slim can be made of Debian's packages alone:
#
#   debootstrap --variant=minbase trixie root http://deb.debian.org/debian
#   tar -C root -c . | docker import - debian:trixie-slim
ARG DEBIAN_IMAGE=debian:trixie-slim

FROM ${DEBIAN_IMAGE} AS root
COPY deploy/docker/prebuilt/trunkline /trunkline
COPY deploy/docker/root.sh /
RUN sh /root.sh /trunkline /image

FROM scratch
COPY --from=root /image/ /
USER 65532:65532
HEALTHCHECK --interval=2s --timeout=2s --start-period=5s --retries=3 CMD ["/trunkline", "status", "--http", "127.0.0.1:8008"]
ENTRYPOINT ["/trunkline"]
CMD ["serve", "--config", "/etc/trunkline/trunkline.toml"]
