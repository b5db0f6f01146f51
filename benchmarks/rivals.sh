#!/bin/sh
# Make the environment of the rivals: .venv-bench (ignored by git), with llama.cpp built for this very
# processor, so that the comparison is against its best and not against a portable wheel: as a library
# under Python, and its programs from the same sources, in the environment's bin.
# `make bench` calls this; a second call finds what is finished and makes only what is missing.
#
# nanochat's trainer runs in twofold's own environment, with the same torch. The two packages that it needs
# beside what is there go into the environment's folder `nanochat`; nanochat itself is a checkout.
#
#   BENCH_VENV=DIR                 another place for the environment
#   CMAKE_ARGS=-DGGML_NATIVE=OFF...  more for cmake, after what is set here
#   CMAKE_BUILD_PARALLEL_LEVEL=1   leave the other cores alone while it builds (twice ten to thirty minutes)
set -eu

cd "$(dirname "$0")/.."
venv="${BENCH_VENV:-.venv-bench}"
python="$venv/bin/python"
programs="llama-cli llama-completion llama-server llama-bench llama-batched-bench"

version() {
    "$python" -c 'import llama_cpp, numpy; print(llama_cpp.__version__)' 2>/dev/null
}

if ! { [ -x "$python" ] && version > /dev/null; }; then
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
fi

# AgentDojo, with what twofold's kernel needs beside it.
if ! [ -d "$venv/dojo" ]; then
    python3 -m venv "$venv/dojo.making"
    "$venv/dojo.making/bin/python" -m pip install --quiet "agentdojo==0.1.35" .
    "$venv/dojo.making/bin/python" -m pip uninstall --quiet --yes twofold # that of the tree is measured
    mv "$venv/dojo.making" "$venv/dojo"
fi

if ! [ -d "$venv/nanochat/tiktoken" ]; then
    "$python" -m pip install --quiet --no-deps --target "$venv/nanochat" "rustbpe>=0.1.0" "tiktoken>=0.11.0"
fi

# lm-evaluation-harness without its model back ends (no torch), and what twofold needs to be its model.
if ! "$python" -c 'import lm_eval, tokenizers, tenacity' 2>/dev/null; then
    echo "rivals: installing lm-evaluation-harness (0.5 GB with what it needs)"
    "$python" -m pip install --quiet "lm-eval[api]>=0.4.13,<0.5" "tokenizers>=0.21"
fi

missing=""
for program in $programs; do
    [ -x "$venv/bin/$program" ] || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "rivals: building$missing from the same sources (long, once)"
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" \
        "llama-cpp-python==$(version)"
    tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work"
    cmake="$(command -v cmake || true)"
    if [ -z "$cmake" ]; then
        "$python" -m pip install --quiet cmake
        cmake="$venv/bin/cmake"
    fi
    # One file each, without libraries to find and load: that is how they start fastest. What they have for
    # the web (pages, TLS) is left out.
    # shellcheck disable=SC2086 (a list)
    "$cmake" -S "$work"/llama_cpp_python-*/vendor/llama.cpp -B "$work/build" -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
        ${CMAKE_ARGS:-}
    # shellcheck disable=SC2086 (a list of names)
    CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(getconf _NPROCESSORS_ONLN)}" \
        "$cmake" --build "$work/build" --target $missing
    for program in $missing; do
        install "$work/build/bin/$program" "$venv/bin/$program"
    done
fi

echo "rivals: $venv is ready (llama-cpp-python $(version), its library and llama.cpp's programs)"
