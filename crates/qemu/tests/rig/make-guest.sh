#!/bin/sh
# make-guest.sh DIR: a small Linux guest, DIR/vmlinuz and DIR/initrd.gz, out of the host's packages.
# Needs linux-image-cloud-amd64, busybox-static, qemu-guest-agent, kmod and cpio.
set -eu
PATH=$PATH:/usr/sbin:/sbin
dir=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

release=
for modules in /lib/modules/*; do
    [ -e "/boot/vmlinuz-${modules##*/}" ] && release=${modules##*/}
done
[ -n "$release" ] || { echo "no kernel with its modules: install linux-image-cloud-amd64" >&2; exit 1; }
cp "/boot/vmlinuz-$release" "$dir/vmlinuz"

mkdir -p "$root/bin" "$root/mod" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/var" "$root/mnt" "$root/etc"
ln -s /run "$root/var/run"
cp "$(command -v busybox)" "$root/bin/busybox"
agent=$(command -v qemu-ga) || { echo "install qemu-guest-agent" >&2; exit 1; }
cp "$agent" "$root/bin/qemu-ga"
ldd "$agent" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done
number=100
for module in virtio_pci virtio_blk virtio_console ext4; do
    modprobe -S "$release" --show-depends "$module" 2>/dev/null | while read -r word file _; do
        [ "$word" = insmod ] && ! ls "$root"/mod/*-"${file##*/}" >/dev/null 2>&1 || continue
        cp "$file" "$root/mod/$(date +%s%N)-${file##*/}"
    done
done

cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(ls /mod | sort); do insmod "/mod/$module"; done
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; sleep 0.2; done
mke2fs -q /dev/vda >/dev/null 2>&1
mount -t ext2 /dev/vda /mnt || mount -t ext4 /dev/vda /mnt || echo "NO FILE SYSTEM"
for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] && qemu-ga -m virtio-serial -p "/dev/${port##*/}" -d -t /run
done
n=0
while :; do
    n=$((n + 1))
    echo "tick $n" >>/mnt/ticks
    sync
    echo "TICK $n"
    usleep 50000
done
INIT
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$dir/initrd.gz"
