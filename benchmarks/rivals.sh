#!/bin/sh
# Make the environment of the rivals: .venv-bench (ignored by git), with llama.cpp built for this very
# processor, so that the comparison is against its best and not against a portable wheel.
# `make bench` calls this; a second call finds the finished environment and returns at once.
#
#   BENCH_VENV=DIR                 another place for the environment
#   CMAKE_BUILD_PARALLEL_LEVEL=1   leave the other cores alone while it builds (some ten to thirty minutes)
set -eu

cd "$(dirname "$0")/.."
venv="${BENCH_VENV:-.venv-bench}"
python="$venv/bin/python"

if [ -x "$python" ] && "$python" -c "import llama_cpp, numpy" 2>/dev/null; then
    echo "rivals: $venv is ready ($("$python" -c 'import llama_cpp; print("llama-cpp-python", llama_cpp.__version__)'))"
    exit 0
fi

echo "rivals: making $venv and building llama.cpp for this processor (long, once)"
python3 -m venv "$venv"
# Git is to pass it by.
echo "*" > "$venv/.gitignore"
"$python" -m pip install --quiet --upgrade pip
"$python" -m pip install --quiet "numpy>=2"
# From source: the wheels on the registry, where there are any, leave out what this processor can do.
# LLAVA_BUILD=OFF leaves out the vision tools, which are not compared.
CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}" \
    "$python" -m pip install --no-binary llama-cpp-python --no-cache-dir --verbose "llama-cpp-python>=0.3.16"
"$python" -c "import llama_cpp; print('rivals: ready, llama-cpp-python', llama_cpp.__version__)"
