# Prometheus as tests/tools.py builds it, where the official image has it.
ARG BASE
FROM ${BASE}
COPY prometheus /bin/prometheus
USER 65534:65534
ENTRYPOINT ["/bin/prometheus"]
