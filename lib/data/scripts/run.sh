#!/bin/sh
# Train and test one run of a study. Each line of a plan calls it:
#   sh run.sh PYTHON FOLDER-OF-THE-RUN PARAMETERS-OF-02 PARAMETERS-OF-03
# It does nothing where the run is done, takes CORES cores (1), and may be cut off at any
# moment: the next call goes on. What went wrong is left in FOLDER/failed.txt.
python=$1 folder=$2 train=$3 test=$4
test -e "$folder/03_test.ipynb" && exit 0
cd "$(dirname "$0")/../../.." || exit 1
for name in OMP OPENBLAS MKL TF_NUM_INTRAOP TF_NUM_INTEROP; do
    case $name in TF*) name=${name}_THREADS ;; *) name=${name}_NUM_THREADS ;; esac
    export "$name=${CORES:-1}"
done
export LOKY_MAX_CPU_COUNT="${CORES:-1}" JUPYTER_PREFER_ENV_PATH=1
papermill() {
    "$python" -m papermill --no-progress-bar --cwd notebooks "$@"
}
changed() {
    echo "ValueError: recordings, features, folds or defaults are not those of the plan; plan the study again"
    return 1
}
mkdir -p "$folder" && rm -f "$folder/failed.txt"
{
    papermill notebooks/02_train.ipynb "$folder/02_train.ipynb" -y "$train" &&
        { test -e "$folder/run.json" || changed; } &&
        papermill notebooks/03_test.ipynb "$folder/.partial-03_test.ipynb" -y "$test" &&
        # It has its name when it is whole: the run is done.
        mv "$folder/.partial-03_test.ipynb" "$folder/03_test.ipynb"
} > "$folder/log.txt" 2>&1
status=$?
test $status -eq 0 && exit 0
cp "$folder/log.txt" "$folder/failed.txt"
# No error of the run: its kernel was killed, found its port taken as it started, or the
# one before still dies. 137 is the shell's status of what was killed.
again="Kernel died|Kernel didn't respond|worked on by another process"
grep -qE "$again" "$folder/log.txt" && exit 137
exit $status
