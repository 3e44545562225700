# What this machine is, a line each: a word, and what it says.
#
# limit, in seconds, for a driver that hangs
echo "os $(uname -sr)"
echo "architecture $(uname -m)"
cpu=$(sed -n -e 's/^model name[[:space:]]*: *//p' -e 's/^Model[[:space:]]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)
echo "cpu ${cpu:-$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)}"
python=$(python3 --version 2>/dev/null)
echo "python ${python#Python }"
command -v nvidia-smi >/dev/null || exit 0
command -v timeout >/dev/null && limited="timeout $limit"
if said=$($limited nvidia-smi --query-gpu=name,driver_version,memory.total \
    --format=csv,noheader,nounits 2>&1); then
    printf '%s\n' "$said" | sed 's/^/gpu /'
else
    echo "trouble $(printf '%s\n' "${said:-nvidia-smi did not answer within $limit s}" | head -n 1)"
fi
