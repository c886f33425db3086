#!/bin/sh
# The build stages of services/Dockerfile: install.sh packages | source, for the service $SERVICE.
set -eu
python=/opt/proa/bin/python
uv=/tools/bin/uv

# Of the machine that builds; mounted for one step, so that no layer holds them.
if [ -f /run/secrets/certificates ]; then
  export SSL_CERT_FILE=/run/secrets/certificates PIP_CERT=/run/secrets/certificates
fi
if [ -f /run/secrets/index ]; then
  UV_DEFAULT_INDEX=$(cat /run/secrets/index)
  PIP_INDEX_URL=$UV_DEFAULT_INDEX
  export UV_DEFAULT_INDEX PIP_INDEX_URL
fi

packages() {
  python3 -m venv /tools
  /tools/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
    -r /locks/bootstrap.txt
  python3 -m venv --without-pip /opt/proa
  $uv pip sync -q --python $python --require-hashes --index-strategy unsafe-best-match \
    --build-constraints /locks/build.txt "/locks/$SERVICE.txt"
  slim
  $python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/proa/lib
}

# Packages bring their tests, and for S3 alone the descriptions of 400 more services of Amazon. What
# people add to a pipelines image may need those.
slim() {
  cd /opt/proa/lib/python3*/site-packages
  for package in numba numpy pandas pyarrow scipy sklearn statsmodels; do
    [ ! -d $package ] || find $package -depth -type d -name tests -exec rm -rf {} +
  done
  if [ "$SERVICE" != pipelines ] && [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts \
      ! -name signin -exec rm -rf {} +
  fi
}

# A wheel takes what is there of the packages that pyproject.toml lists: the platform and one service.
source_() {
  mkdir -p /opt/own
  [ "$SERVICE" != mlflow ] || return 0
  cd /source
  find services pipelines -mindepth 1 -maxdepth 1 ! -name "proa_$SERVICE" -exec rm -rf {} +
  $uv build -q --wheel --out-dir /wheel --python $python --require-hashes \
    --build-constraints /locks/embedded.txt .
  $uv pip install -q --python $python --no-deps --offline --target /opt/own /wheel/*.whl
  rm -rf /opt/own/bin
  $python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/own
}

case $1 in
  packages) packages ;;
  source) source_ ;;
esac
