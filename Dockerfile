# The programs, static, on empty bases, without root; the media server with the usual authorities' certificates and with
# media-client, the headless camera and viewer, whose `probe` is the smoke test.
#
#   docker build -t streamsession/media-server --target media-server .
#   docker build -t streamsession/operator --target operator .
#   docker run -p 8080:8080 -p 8189:8189/udp -v media:/data -e MEDIA_JWT_SECRET=… streamsession/media-server \
#     --http 0.0.0.0:8080 --data-dir /data --announce ADDRESS-OF-THIS-HOST
#
# The stages that compile have not been built by an engine yet: they start from an image that the machines of the project
# cannot pull. Their commands are those of `tests/lab/images --build`, and the last stages are built by tests/lab/images as
# they stand here, and run in its cluster.
FROM rust:1.95-bookworm AS source
RUN apt-get update && apt-get install -y --no-install-recommends cmake
WORKDIR /src
COPY . .

# Only the last step of each differs from an ordinary build: glibc is linked in.
FROM source AS build-operator
RUN cargo rustc --locked --release -p streamsession-operator --bin operator -- -C target-feature=+crt-static -C strip=debuginfo \
 && mkdir -p /out && cp target/release/operator /out/

FROM source AS build-media-server
RUN cargo rustc --locked --release -p media-server --bin media-server -- -C target-feature=+crt-static -C strip=debuginfo \
 && cargo rustc --locked --release -p media-client --bin media-client -- -C target-feature=+crt-static -C strip=debuginfo \
 && mkdir -p /out/data && cp target/release/media-server target/release/media-client /out/

FROM scratch AS operator
COPY --from=build-operator /out/operator /operator
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/operator"]

FROM scratch AS media-server
# Whom a store elsewhere may have its certificate from.
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-media-server /out/media-server /media-server
COPY --from=build-media-server /out/media-client /media-client
COPY --from=build-media-server --chown=65532:65532 /out/data /data
USER 65532:65532
EXPOSE 8080/tcp 8189/udp
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["/media-server"]
# Arguments replace these.
CMD ["--http", "0.0.0.0:8080", "--data-dir", "/data"]
