FROM node:22-bookworm-slim AS pages
WORKDIR /src
COPY scripts/pages scripts/
COPY clients clients/
RUN rm -rf clients/examples/built/dist && scripts/pages

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
COPY --from=pages /src/clients/examples/built clients/examples/built
RUN cargo build --release --locked --bin pgrelay

FROM debian:bookworm-slim
RUN useradd --system --user-group --no-create-home --shell /usr/sbin/nologin pgrelay
COPY --from=build /src/target/release/pgrelay /usr/local/bin/pgrelay
USER pgrelay
ENV PGRELAY_LISTEN=0.0.0.0:4000
EXPOSE 4000
STOPSIGNAL SIGTERM
# Ready means: capture is live. Bash speaks enough HTTP for that, so the image needs no client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4000 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ $status = 200 ]"]
ENTRYPOINT ["pgrelay"]
CMD ["serve"]
