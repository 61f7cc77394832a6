#!/usr/bin/env bash
# Builds the core with sanitizers and runs its tests: sanitize.sh "address undefined thread" [pytest arguments]
# PYTHON names the interpreter of a development environment, whose packages are borrowed.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
builds=$1
shift
borrowed=$("$python" -c 'import os, sys; print("\n".join(p for p in sys.path if p.endswith("site-packages")))')
tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
  tests=(tests/backend tests/methods/test_pareto_mtl.py tests/methods/test_migration.py)
fi

for kind in $builds; do
  case $kind in
    address) flags="-fsanitize=address,undefined -fno-sanitize-recover=all" library=libasan.so ;;
    thread) flags="-fsanitize=thread" library=libtsan.so ;;
    *) echo "sanitize.sh: unknown build $kind" >&2 && exit 2 ;;
  esac
  environment=build/sanitize-$kind
  "$python" -m venv --without-pip "$environment"
  # a line of a .pth file adds a folder without the hooks of editable installs that lie in it
  echo "$borrowed" >"$(echo "$environment"/lib/python*/site-packages)/borrowed.pth"
  echo "== $kind: build"
  "$environment/bin/python" -m pip install --quiet --no-build-isolation --no-deps --upgrade \
    --config-settings=cmake.build-type=RelWithDebInfo --config-settings=build-dir="build/objects-$kind" \
    --config-settings=cmake.define.PYFRONT_CUDA=OFF --config-settings=install.strip=false \
    --config-settings=cmake.define.CMAKE_CXX_FLAGS="$flags -fno-omit-frame-pointer" \
    --target "$(echo "$environment"/lib/python*/site-packages)" .
  echo "== $kind: tests"
  # libstdc++ beside it, whose throw it intercepts; without randomised addresses, which the thread sanitizer does not know how to place; Python and
  # torch themselves leak and race by design and are not instrumented
  LD_PRELOAD="$(g++ -print-file-name=$library) $(g++ -print-file-name=libstdc++.so.6)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66 \
    OMP_NUM_THREADS=1 setarch "$(uname -m)" -R \
    "$environment/bin/python" -P -m pytest -q -p no:cacheprovider --capture=sys "${tests[@]}"
done
