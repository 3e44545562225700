# The first process of a machine that boots as an EC2 instance does, out of /run/seed.
#
# What cloud-init does in which order:
# https://docs.cloud-init.io/en/latest/explanation/boot.html
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
seed=/run/seed
# For reading and writing, so that it never ends.
exec 3<>/run/power

for place in /usr/local/bin /usr/sbin; do
    for name in shutdown poweroff halt reboot; do
        rm -f "$place/$name" && ln -s "$seed/power" "$place/$name"
    done
done
rm -f /usr/bin/systemctl && ln -s "$seed/power" /usr/bin/systemctl
rm -f /usr/local/bin/sudo && ln -s "$seed/sudo" /usr/local/bin/sudo

boot() {
    sh "$seed/bootcmd" </dev/null || echo "cloud-init: bootcmd failed with status $?" >&2
    sh "$seed/write_files" || echo "cloud-init: write_files failed with status $?" >&2
    sleep "$(cat "$seed/delay")"
    touch /run/logind
    /usr/sbin/sshd -D -e -f /run/sshd/sshd_config &
    sh "$seed/runcmd" </dev/null || echo "cloud-init: runcmd failed with status $?" >&2
}

rm -f /run/logind
echo "cloud-init: booting" >&2
boot &
while read -r word <&3; do
    case $word in
    off | o)
        exit 0
        ;;
    halt)
        # "The halt command doesn't initiate a shutdown. If used, the instance doesn't terminate;
        # instead, it places the CPU into HLT and the instance continues to run."
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html
        kill -KILL -1
        exec sleep infinity
        ;;
    reboot | b)
        kill -KILL -1
        exec bash "$seed/init"
        ;;
    esac
done
