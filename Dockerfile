FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w -X main.version=${VERSION}" -o /out/ ./cmd/drawboltd ./cmd/drawbolt \
 && install -d -m 0700 /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/drawboltd /out/drawbolt /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/state /var/lib/drawbolt
USER 65532:65532
VOLUME /var/lib/drawbolt
EXPOSE 8443 2222
ENV PATH=/usr/local/bin
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["drawboltd", "healthcheck"]
ENTRYPOINT ["drawboltd"]
CMD ["serve"]
