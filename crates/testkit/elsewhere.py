#!/usr/bin/python3
"""elsewhere.py [--when TEXT kill|cut] UID GID COMMAND... - runs a command as on a machine of its own.

To be run as root in new network and mount namespaces. The machine has one address on a network,
198.51.100.1, one that is link-local, and a name server on its loopback device; it serves "hello" on
port 8080 of each, and at the abstract socket `elsewhere`. Everybody may make network devices.

When the command says TEXT, it is killed, or what connects private networks is. Afterwards, standard
output tells what was asked for, and which processes are left on the machine's network.
"""
import os, signal, socket, struct, subprocess, sys, threading, time

ADDRESSES = ["127.0.0.1", "198.51.100.1", "169.254.169.254"]
asked = []


def must(*command):
    # Not that of the command, which may be kept from finding some of its helpers.
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(command, check=True, env={"PATH": path})


def machine():
    if not os.path.isdir("/dev/net"):
        sys.exit(77)
    must("ip", "link", "set", "lo", "up")
    must("ip", "link", "add", "out", "type", "veth", "peer", "name", "far")
    for device in ["out", "far"]:
        must("ip", "link", "set", device, "up")
    must("ip", "address", "add", "198.51.100.1/24", "dev", "out")
    must("ip", "address", "add", "169.254.169.254/32", "dev", "out")
    must("ip", "route", "add", "default", "via", "198.51.100.2")
    must("mount", "-t", "tmpfs", "-o", "mode=755", "dev", "/dev/net")
    os.mknod("/dev/net/tun", 0o666 | 0o020000, os.makedev(10, 200))
    os.chmod("/dev/net/tun", 0o666)
    must("mount", "-t", "tmpfs", "-o", "mode=755", "resolver", "/mnt")
    with open("/mnt/resolv.conf", "w") as conf:
        conf.write("nameserver 127.0.0.53\n")
    must("mount", "--bind", "/mnt/resolv.conf", "/etc/resolv.conf")


def serve(family, address, name):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen()

    def answer():
        while True:
            connection, _ = listener.accept()
            asked.append(name)
            connection.settimeout(5)
            try:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
            except OSError:
                pass
            connection.close()

    threading.Thread(target=answer, daemon=True).start()


def resolve_names():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.53", 53))

    def answer():
        while True:
            query, sender = server.recvfrom(4096)
            end = 12
            while query[end]:
                end += query[end] + 1
            question = query[12 : end + 5]
            asked.append("name")
            answers = []
            if question[-4:-2] == b"\0\1":
                address = socket.inet_aton("198.51.100.1")
                answers.append(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address)
            head = query[:2] + b"\x81\x80\0\1" + struct.pack(">H", len(answers)) + b"\0\0\0\0"
            server.sendto(head + question + b"".join(answers), sender)

    threading.Thread(target=answer, daemon=True).start()


def others():
    """The processes on this network but for this one and the threads of none, by id."""
    own = os.readlink("/proc/self/ns/net")
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if os.readlink(f"/proc/{entry}/ns/net") == own:
                with open(f"/proc/{entry}/comm") as comm:
                    found[int(entry)] = comm.read().strip()
        except OSError:
            pass
    return found


def main():
    words = sys.argv[1:]
    when, what = None, None
    if words[0] == "--when":
        when, what, words = words[1], words[2], words[3:]
    (uid, gid), command = map(int, words[:2]), words[2:]
    machine()
    for address in ADDRESSES:
        serve(socket.AF_INET, (address, 8080), address)
    serve(socket.AF_UNIX, "\0elsewhere", "socket")
    resolve_names()
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, user=uid, group=gid, extra_groups=[]
    )
    for line in child.stderr:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
        if when and when.encode() in line:
            when = None
            if what == "kill":
                child.kill()
            for process, name in others().items():
                if what == "cut" and name.startswith(("passt", "pasta", "slirp4netns")):
                    os.kill(process, signal.SIGKILL)
    status = child.wait()
    patience = time.monotonic() + (30 if what == "kill" else 0)
    while others() and time.monotonic() < patience:
        time.sleep(0.05)
    print("asked:", " ".join(sorted(set(asked))))
    print("left:", " ".join(others().values()), flush=True)
    # A signal is told as a shell tells it.
    os._exit(128 - status if status < 0 else status)


main()
