# The media server as a static program on an empty base, without root.
#
#   docker build -t media-server .
#   docker run -p 8080:8080 -p 8189:8189/udp -v media:/data -e MEDIA_JWT_SECRET=… media-server --announce ADDRESS-OF-THIS-HOST
#
# Not yet built by an engine. What was tried: the program of the same command, in an empty root with only /dev and /proc, as
# user 65532: it serves, records, drains, and its probe passes.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake
WORKDIR /src
COPY . .
# Only the last step differs from an ordinary build: glibc is linked in.
RUN cargo rustc --locked --release -p media-server --bin media-server -- -C target-feature=+crt-static -C strip=debuginfo \
 && mkdir -p /out/data && cp target/release/media-server /out/

FROM scratch
COPY --from=build /out/media-server /media-server
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
EXPOSE 8080/tcp 8189/udp
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["/media-server", "--http", "0.0.0.0:8080", "--data-dir", "/data"]
