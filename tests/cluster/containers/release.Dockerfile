# Releases that start in a second, where a test is about rollouts; tests/standins/release_pod.py.
ARG BASE
FROM ${BASE}
COPY release_pod.py release_server.py /app/
RUN mkdir -p /app/proa_predictor /app/proa_assistant /app/proa/release \
    && ln -s /app/release_pod.py /app/proa_predictor/__main__.py \
    && ln -s /app/release_pod.py /app/proa_assistant/__main__.py \
    && ln -s /app/release_pod.py /app/proa/release/fetch.py \
    && ln -s /usr/bin/python3 /usr/local/bin/python
ENV PYTHONPATH=/app
