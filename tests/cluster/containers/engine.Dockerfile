# The stand-in for vLLM, on an image that has its libraries.
ARG BASE
FROM ${BASE}
COPY engine.py /app/engine.py
ENTRYPOINT ["python3", "/app/engine.py"]
