#!/usr/bin/env bash
# A first run on an NVIDIA card: right, then clean, then fast. Each part has a time box and a log.
#
#   bench/gpu_first_run.sh [--out FOLDER] [--total SECONDS] [PART ...]
#
# Parts, in the order in which they run when none is named:
#   info      the card, versions, which kernels would be chosen
#   graph     k3 in a CUDA graph; where it fails, the other parts run with FASTNN_CUDA_GRAPH=0
#   kernels   every CUDA kernel once against the CPU
#   tests     the tests of the CuPy backend, a skip of it counting as a failure
#   numba     the same for the Numba backend
#   sanitize  compute-sanitizer: memcheck of every kernel, racecheck of the recurrent ones
#   steps     microseconds a step of each recurrent kernel, and constants for the model
#   bench     every row against cuDNN through PyTorch; goes on where the file in the folder ends
# and on demand only:
#   build     the CPU kernels, in place (the other parts do not need them)
#   suite     the whole test suite with both GPU backends required
#
# The folder is bench/results/DATE-CARD. --total (570) is for all parts together: a part gets its box
# (NAME_SECONDS in the environment changes it) or what is left. CUPY_CACHE_DIR is packed into the
# folder where it is small enough to travel, and unpacked from there, so a later call on another
# machine does not compile again. The exit code is 1 if a part failed, 2 for wrong usage.
set -uo pipefail
cd "$(dirname "$0")/.."

PARTS=(info graph kernels tests numba sanitize steps bench)
ON_DEMAND=(build suite)
MOST_PACKED=$((15 << 20))

fail() { echo "gpu_first_run.sh: $*" >&2; exit 2; }

out= total=570 chosen=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?--out needs a folder}; shift 2 ;;
        --total) total=${2:?--total needs seconds}; shift 2 ;;
        -*) fail "$1 is no option; --out and --total are" ;;
        *)
            [[ " ${PARTS[*]} ${ON_DEMAND[*]} " == *" $1 "* ]] \
                || fail "$1 is no part; one of ${PARTS[*]} ${ON_DEMAND[*]} is needed"
            chosen+=("$1"); shift ;;
    esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${PARTS[@]}")

python=${PYTHON:-python3}
card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr -cs 'A-Za-z0-9\n' '-')
out=${out:-bench/results/$(date -u +%F)-${card:-no-card}}
mkdir -p "$out" || fail "$out cannot be written"
out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export CUPY_CACHE_DIR=${CUPY_CACHE_DIR:-$PWD/runs/gpu-cache}
mkdir -p "$CUPY_CACHE_DIR"
# In a checkout that is not installed, the package fastnn.kernels is the folder kernels/.
[ -e fastnn/kernels ] || ln -s ../kernels fastnn/kernels
[ -f "$out/kernel-cache.tgz" ] && tar xzf "$out/kernel-cache.tgz" -C "$CUPY_CACHE_DIR"

status=0 code=0 # of all parts, of the last command
left() { echo $((total - SECONDS)); }

# box PART SECONDS: what the part may take now.
box() {
    local name=${1^^}_SECONDS
    local own=${!name:-$2} rest
    rest=$(left)
    echo $((own < rest ? own : rest))
}

# in_box PART SECONDS LOG COMMAND...: run, log, tell.
in_box() {
    local name=$1 seconds log=$out/$3.log begin=$SECONDS
    code=1
    seconds=$(box "$1" "$2")
    shift 3
    if [ "$seconds" -lt 5 ]; then
        echo "== $name: no time left"
        status=1
        return
    fi
    echo "== $name, at most $seconds s: $*" | tee -a "$log"
    timeout -k 10 "$seconds" "$@" >>"$log" 2>&1
    code=$?
    tail -n 15 "$log"
    [ $code -eq 124 ] && echo "== $name: stopped at its time box"
    echo "== $name: exit code $code after $((SECONDS - begin)) s" | tee -a "$log"
    [ $code -eq 0 ] || status=1
}

pytest_options() {
    local options=(-q -p no:cacheprovider --tb=short -rfE)
    "$python" -c 'import xdist' 2>/dev/null && options+=(-n "$(nproc --ignore=2)")
    "$python" -c 'import pytest_timeout' 2>/dev/null && options+=(--timeout 90)
    echo "${options[@]}"
}

# The test files that import no compiled CPU kernel, which may not have been built.
without_cpu_kernels() { grep -L 'kernels\.cpu' tests/test_*.py; }

# measured PART SECONDS GROUP: a benchmark that is started again after a row that did not end.
measured() {
    local part=$1 group=$3 file=$out/$3.json try seconds
    for try in 1 2 3 4; do
        seconds=$(box "$part" "$2")
        in_box "$part" "$2" "$group" \
            "$python" -m fastnn bench "$group" --json "$file" --limit $((seconds > 60 ? seconds - 30 : 30)) \
            --time-per-row "${ROW_SECONDS:-0.4}"
        grep -qs '^ "running"' "$file" && [ "$(left)" -gt 60 ] || break
    done
}

run_part() {
    case $1 in
        info)
            in_box info 60 info "$python" -m fastnn info --verbose
            nvidia-smi >>"$out/info.log" 2>&1 ;;
        build) in_box build 240 build "$python" setup.py -q build_ext --inplace -j"$(nproc)" ;;
        kernels) in_box kernels 120 kernels "$python" -m fastnn.bench.gpu_kernels ;;
        graph)
            # Its cuBLAS is called by ctypes: where that does not work, the other parts do without.
            in_box graph 60 graph "$python" -m fastnn.bench.gpu_kernels k3
            if [ $code -ne 0 ]; then
                echo "== graph: FASTNN_CUDA_GRAPH=0 from here on"
                export FASTNN_CUDA_GRAPH=0
            fi ;;
        tests)
            # shellcheck disable=SC2046
            FASTNN_REQUIRE=cupy in_box tests 180 tests "$python" -m pytest $(pytest_options) \
                -k '(cupy or cuda) and not emulator and not compile' $(without_cpu_kernels) ;;
        numba)
            # shellcheck disable=SC2046
            FASTNN_REQUIRE=numba in_box numba 150 numba "$python" -m pytest $(pytest_options) \
                -k 'numba and not compile and not simulator and not absent' $(without_cpu_kernels) ;;
        suite)
            # shellcheck disable=SC2046
            FASTNN_REQUIRE=cupy,numba in_box suite 560 suite "$python" -m pytest $(pytest_options) tests ;;
        sanitize)
            local sanitizer=(compute-sanitizer --error-exitcode 9 --print-limit 20)
            in_box sanitize 100 memcheck "${sanitizer[@]}" --tool memcheck \
                "$python" -m fastnn.bench.gpu_kernels
            in_box sanitize 100 racecheck "${sanitizer[@]}" --tool racecheck \
                "$python" -m fastnn.bench.gpu_kernels k0 k1 k2 ;;
        steps) measured steps 240 gpu-steps ;;
        bench) measured bench 560 gpu ;;
    esac
}

for part in "${chosen[@]}"; do
    run_part "$part"
done

if tar czf "$out/.cache.part" -C "$CUPY_CACHE_DIR" . 2>/dev/null \
    && [ "$(stat -c %s "$out/.cache.part")" -le $MOST_PACKED ]; then
    mv "$out/.cache.part" "$out/kernel-cache.tgz"
else
    rm -f "$out/.cache.part"
fi
echo "== results in $out; exit code $status"
exit $status
