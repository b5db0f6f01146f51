# ruff: noqa: E501 - the programs stand as they are

"""Ways out of a sandbox, as short programs; each prints GOT when it has got out.

A program finds in `W` what there is to be had: the paths of secrets, the ports that listen, a victim's process id.
Each is run without a sandbox too (its control): whoever cannot succeed there proves nothing by failing inside. So
none may do harm where it succeeds, as root on a machine that others work on: it aims at the world of the test, at
itself, or is made with arguments that the kernel refuses once the caller's rights have been checked. (Calls that
work on "all processes of this user" have no harmless form, and are not among them.) Bombs are small: they count as successful when they are past the small limits
that the sandbox was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

SMALL: Mapping[str, int] = {
    "seconds": 6, "cpu_s": 4, "memory_bytes": 160_000_000, "processes": 16, "threads": 256, "disk_bytes": 16_000_000,
}  # fmt: skip

PRELUDE = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def got(what=""):
    print("GOT", what, flush=True)
    raise SystemExit
def call(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[
        ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) if isinstance(a, bytes) else a
        for a in arguments
    ])
    return done, ctypes.get_errno()
def reached(number, *arguments):
    # Whether a system call was let through to where it does its work; the arguments make it harmless there.
    done, number = call(number, *arguments)
    if done >= 0 or number not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        got(errno.errorcode.get(number, done))
def peek(path):
    with open(path, "rb") as file:
        if (found := file.read(200)):
            got(found[:40])
"""


@dataclass(frozen=True)
class Attempt:
    """group, name: for the table. code: follows PRELUDE. limits: of the sandbox, where not the usual ones.
    quick: whether it is tried in every run of the tests. mark: a file that it would make after its end."""

    group: str
    name: str
    code: str
    limits: Mapping[str, int] = field(default_factory=lambda: {"seconds": 10})
    quick: bool = False
    mark: str = ""

    @property
    def alone(self) -> bool:
        """Return whether it needs a sandbox of its own: for its limits, or for what comes after the end."""
        return self.group == "resources" or bool(self.mark)


_MARKS = {"a daemon that stays": "late"}


def _each(group: str, table: Mapping[str, str], quick: tuple[str, ...] = ()) -> list[Attempt]:
    return [
        Attempt(group, name, code, quick=name in quick, mark=_MARKS.get(name, ""))
        for name, code in table.items()
    ]


FILES = _each("files", {
    "read a secret": "peek(W['secret'])",
    "read the system's passwords": "peek('/etc/shadow')",
    "read the journal and the keys of twofold": "peek(W['journal'])",
    "read keys and history in the home folder": "peek(W['home'] + '/.ssh/id_ed25519')",
    "learn the size of a file outside": "got(os.stat(W['secret']).st_size)",
    "list a folder outside": "got(os.listdir(W['outside']))",
    "write a new file outside": "open(W['outside'] + '/new', 'w').write('x'); got()",
    "append to a file outside": "open(W['victim_file'], 'a').write('x'); got()",
    "cut a file off": "os.truncate(W['victim_file'], 1); got()",
    "delete a file outside": "os.unlink(W['victim_file']); got()",
    "move a file in": "os.rename(W['victim_file'], 'mine'); got()",
    "move a file out": "open('m', 'w').write('x'); os.rename('m', W['outside'] + '/m'); got()",
    "change permissions": "os.chmod(W['victim_file'], 0o777); got()",
    "change an owner": "os.chown(W['victim_file'], os.getuid(), os.getgid()); got()",
    "set an extended attribute": "os.setxattr(W['victim_file'], 'user.x', b'x'); got()",
    "change dates": "os.utime(W['victim_file'], (1, 1)); got()",
    "climb with ..": "peek(os.path.relpath(W['secret']))",
    "symbolic link": "os.symlink(W['secret'], 'l'); peek('l')",
    "symbolic link to the root folder": "os.symlink('/', 'root'); peek('root' + W['secret'])",
    "hard link": "os.link(W['secret'], 'h'); peek('h')",
    "hard link with linkat(AT_EMPTY_PATH)": """
f = os.open(W['secret'], os.O_PATH)
if call(265, f, b'', -100, b'h', 0x1000)[0] == 0: peek('h')
""",
    "by O_PATH and /proc/self/fd": "f = os.open(W['secret'], os.O_PATH); peek('/proc/self/fd/%d' % f)",
    "by /proc/self/root": "peek('/proc/self/root' + W['secret'])",
    "by /proc/self/cwd": "peek('/proc/self/cwd/' + os.path.relpath(W['secret']))",
    "by /proc/1/root": "peek('/proc/1/root' + W['secret'])",
    "by the root folder of another process": "peek('/proc/%d/root%s' % (W['victim'], W['secret']))",
    "by a descriptor that was left open": """
for f in range(3, 1024):
    try: found = os.pread(f, 200, 0)
    except OSError: continue
    if b'SECRET' in found: got()
""",
    "by a file handle": """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); mount = ctypes.c_int()
libc.name_to_handle_at(-100, W['secret'].encode(), handle, ctypes.byref(mount), 0)
f = libc.open_by_handle_at(os.open(W['root'], os.O_RDONLY), handle, 0)
if f >= 0 and b'SECRET' in os.read(f, 200): got()
""",
    "race: a file that becomes a link": """
open('a', 'w').write('mine'); os.symlink(W['secret'], 'b')
def swap():
    while True: libc.renameat2(-100, b'a', -100, b'b', 2)
threading.Thread(target=swap, daemon=True).start()
end = time.time() + 1.5
while time.time() < end:
    try:
        if 'SECRET' in open('a').read(): got()
    except OSError: pass
os._exit(0)
""",
    "race: a folder that becomes a link": """
os.mkdir('a'); os.symlink(W['outside'], 'b')
name = 'a/' + os.path.basename(W['secret'])
def swap():
    while True: libc.renameat2(-100, b'a', -100, b'b', 2)
threading.Thread(target=swap, daemon=True).start()
end = time.time() + 1.5
while time.time() < end:
    try:
        if 'SECRET' in open(name).read(): got()
    except OSError: pass
os._exit(0)
""",
    "watch a folder outside": """
f = libc.inotify_init1(0)
if libc.inotify_add_watch(f, W['outside'].encode(), 0xfff) >= 0: got()
""",
    "run a program from outside": "got(subprocess.check_output([W['program']]))",
    "put code into the packages of Python": "os.open(W['packages'], os.O_TMPFILE | os.O_WRONLY); got()",
    "read the disk itself": "peek(W['disk'])",
    "make a device node": "os.mknod('node', stat.S_IFCHR | 0o600, os.makedev(1, 1)); got()",
    "read the memory of the machine": "peek('/dev/mem')",
}, quick=("read a secret", "write a new file outside", "delete a file outside", "symbolic link", "hard link",
          "by a descriptor that was left open", "race: a file that becomes a link", "watch a folder outside"))  # fmt: skip

SECRETS = _each("secrets", {
    "environment": "[got(v) for v in os.environ.values() if 'SECRET' in v]",
    "environment as it was at the start": "b'SECRET' in open('/proc/self/environ', 'rb').read() and got()",
    "environment of the process that started it": "peek('/proc/%d/environ' % W['harness'])",
    "environment of another process": "b'SECRET' in open('/proc/%d/environ' % W['victim'], 'rb').read() and got()",
    "arguments of another process": "b'SECRET' in open('/proc/%d/cmdline' % W['victim'], 'rb').read() and got()",
    "list of all processes": "sum(e.isdigit() for e in os.listdir('/proc')) > 8 and got()",
    "memory of another process": """
local = ctypes.create_string_buffer(16)
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
mine, its = V(ctypes.addressof(local), 16), V(W['address'], 16)
if libc.process_vm_readv(W['victim'], ctypes.byref(mine), 1, ctypes.byref(its), 1, 0) == 16: got(local.raw)
""",
    "memory of another process by /proc": "f = open('/proc/%d/mem' % W['victim'], 'rb'); f.seek(W['address']); got(f.read(9))",
    "a descriptor of another process": """
f = os.pidfd_open(W['victim'])
n, e = call(438, f, W['descriptor'], 0)
if n >= 0: got(os.pread(n, 20, 0))
""",
    "the system's keyring": """
n, e = call(250, 10, -4, b'user', b'twofold-test', 0)
if n >= 0: got(n)
n, e = call(249, b'user', b'twofold-test', 0, 0)
if n >= 0: got(n)
""",
    "shared memory of System V": """
libc.shmat.restype = ctypes.c_void_p
n = libc.shmget(W['shm_key'], 0, 0)
if n >= 0 and (a := libc.shmat(n, None, 0o10000)) not in (None, 2 ** 64 - 1): got(ctypes.string_at(a, 6))
""",
    "shared memory of POSIX": "peek('/dev/shm/' + W['shm_name'])",
    "messages of the kernel": """
b = ctypes.create_string_buffer(4096)
if libc.klogctl(3, b, 4096) > 0: got(b.raw[:30])
""",
    "addresses in the kernel": """
for line in open('/proc/kallsyms'):
    if not line.startswith('0000000000000000'): got(line[:40])
    break
""",
    "connections of this machine": "len(open('/proc/net/tcp').read().splitlines()) > 1 and got()",
}, quick=("environment", "environment of another process", "memory of another process", "the system's keyring"))  # fmt: skip

NETWORK = _each("network", {
    "tcp to this machine": "socket.create_connection(('127.0.0.1', W['tcp']), 2).send(b'x'); got()",
    "tcp over IPv6": "socket.create_connection(('::1', W['tcp6']), 2).send(b'x'); got()",
    "tcp to this machine's own address": "socket.create_connection((W['address_of_machine'], W['tcp']), 2); got()",
    "tcp by fast open": """
s = socket.socket(); s.settimeout(2)
s.sendto(b'x', 0x20000000, ('127.0.0.1', W['tcp'])); got()
""",
    "tcp by sendmsg with fast open": """
s = socket.socket(); s.settimeout(2)
s.sendmsg([b'x'], [], 0x20000000, ('127.0.0.1', W['tcp'])); got()
""",
    "multipath tcp": """
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.settimeout(2); s.connect(('127.0.0.1', W['tcp'])); got()
""",
    "race: an address that changes": """
s4 = struct.pack('=HHI8x', 2, socket.htons(9), 0x0100007f)
good = struct.pack('=HHI8x', 2, socket.htons(W['tcp']), 0x0100007f)
b = ctypes.create_string_buffer(s4)
def swap():
    while True: ctypes.memmove(b, good, 16); ctypes.memmove(b, s4, 16)
threading.Thread(target=swap, daemon=True).start()
end = time.time() + 1
while time.time() < end:
    s = socket.socket()
    if libc.connect(s.fileno(), b, 16) == 0: got()
    s.close()
os._exit(0)
""",
    "listen for tcp": """
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); got(s.getsockname()[1])
""",
    "udp": """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', W['udp'])); got()
""",
    "udp, connected": """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', W['udp'])); s.send(b'x'); got()
""",
    "udp by sendmsg": """
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendmsg([b'x'], [], 0, ('::ffff:127.0.0.1', W['udp'])); got()
""",
    "a question to a name server": """
q = b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6secret\\7example\\3org\\0\\0\\1\\0\\1'
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(q, ('127.0.0.1', W['udp'])); got()
""",
    "udp-lite": """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136); s.sendto(b'x', ('127.0.0.1', W['udp'])); got()
""",
    "ping": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP); got()",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); got()",
    "packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300); got()",
    "unix socket by its path": "s = socket.socket(socket.AF_UNIX); s.connect(W['unix']); s.send(b'x'); got()",
    "unix datagram by its path": """
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', W['unix_datagram']); got()
""",
    "unix socket by a link to its path": """
os.symlink(W['unix'], 'u'); s = socket.socket(socket.AF_UNIX); s.connect('u'); s.send(b'x'); got()
""",
    "abstract unix socket": "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + W['abstract']); s.send(b'x'); got()",
    "abstract unix datagram": """
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', '\\0' + W['abstract_datagram']); got()
""",
    "netlink: what networks there are": """
s = socket.socket(16, socket.SOCK_RAW, 0); s.bind((0, 0))
s.send(struct.pack('=IHHIIB3x', 20, 18, 0x301, 1, 0, 0)); data = s.recv(65536)
[got(name) for name in W['interfaces'] if name.encode() + b'\\0' in data]
""",
    "netlink: whose connections there are": "s = socket.socket(16, socket.SOCK_RAW, 4); s.bind((0, 0)); got()",
    "netlink: events of the kernel": "s = socket.socket(16, socket.SOCK_DGRAM, 15); s.bind((0, 1)); got()",
    "vsock": "socket.socket(40, socket.SOCK_STREAM); got()",
    "the kernel's ciphers (AF_ALG)": "socket.socket(38, socket.SOCK_SEQPACKET); got()",
    "sctp": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132); got()",
}, quick=("tcp to this machine", "tcp by fast open", "multipath tcp", "udp", "unix socket by its path",
          "abstract unix socket", "unix datagram by its path", "raw", "netlink: what networks there are"))  # fmt: skip

_PROBED = "reached({})"
PROCESSES = _each("processes", {
    "end another process": "os.kill(W['victim'], signal.SIGUSR1); got()",
    "end it by its descriptor": "signal.pidfd_send_signal(os.pidfd_open(W['victim']), signal.SIGUSR1); got()",
    "end it by tgkill": "call(234, W['victim'], W['victim'], signal.SIGUSR1)[0] == 0 and got()",
    "end it with a queued signal": """
info = struct.pack('iiiiii', signal.SIGUSR1, 0, -1, 0, os.getpid(), os.getuid()) + bytes(104)
call(129, W['victim'], signal.SIGUSR1, info)[0] == 0 and got()
""",
    "end it by the owner of a pipe": """
r, w = os.pipe()
fcntl.fcntl(r, fcntl.F_SETOWN, W['victim']); fcntl.fcntl(r, 10, signal.SIGUSR1)
fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | os.O_ASYNC)
os.write(w, b'x'); time.sleep(0.3)
""",
    "reach the process that started it": "os.kill(W['harness'], 0); got()",
    "trace another process": "call(101, 0x4206, W['victim'], 0, 0)[0] == 0 and got()",
    "write into its memory": """
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
b = ctypes.create_string_buffer(b'SECRET'); mine, its = V(ctypes.addressof(b), 6), V(W['address'], 6)
libc.process_vm_writev(W['victim'], ctypes.byref(mine), 1, ctypes.byref(its), 1, 0) == 6 and got()
""",
    "change its limits": """
now = (ctypes.c_uint64 * 2)()
call(302, W['victim'], 7, None, now)[0] == 0 and call(302, W['victim'], 7, now, None)[0] == 0 and got()
""",
    "change its priority": "os.setpriority(os.PRIO_PROCESS, W['victim'], os.getpriority(os.PRIO_PROCESS, W['victim'])); got()",
    "change its processors": "os.sched_setaffinity(W['victim'], os.sched_getaffinity(W['victim'])); got()",
    "change its scheduler": "os.sched_setscheduler(W['victim'], os.SCHED_OTHER, os.sched_param(0)); got()",
    "change its disk priority": "call(251, 1, W['victim'], 2 << 13 | 4)[0] == 0 and got()",
    "move its memory": "call(256, W['victim'], 8, (ctypes.c_ulong * 1)(1), (ctypes.c_ulong * 1)(1))[0] >= 0 and got()",
    "join its namespaces": "reached(308, os.pidfd_open(W['victim']), 0x20000000)",
    "become another user": "os.setresuid(1, 1, 1); got()",
    "become another group": "os.setgroups([1]); got()",
    "a program with the setuid bit": "b'euid=0' in subprocess.check_output([W['setuid']]) and got()",
    "get capabilities back": """
data = (ctypes.c_uint32 * 6)(); libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)
if data[0] or data[1]: got(hex(data[1]))
libc.prctl(23, 21, 0, 0, 0) == 1 and got('bounding set')
""",
    "raise its own limits": """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1)); got()
""",
    "a daemon that stays": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for f in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), f)
        time.sleep(1.0); open(W['inside'] + '/late', 'w').write('x'); time.sleep(0.5)
    os._exit(0)
os.wait(); print('left')
""",
}, quick=("end another process", "end it by the owner of a pipe", "trace another process", "change its limits",
          "get capabilities back", "a daemon that stays"))  # fmt: skip

KERNEL = _each("kernel", {
    "user namespace": "libc.unshare(0x10000000) == 0 and got()",
    "mount namespace": "libc.unshare(0x20000) == 0 and got()",
    "network namespace": "libc.unshare(0x40000000) == 0 and got()",
    "namespace by clone": """
n, e = call(56, 0x10000000 | 17, 0, 0, 0, 0)
if n == 0: os._exit(0)
if n > 0: os.waitpid(n, 0); got()
""",
    "namespace by clone3": """
args = struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
n, e = call(435, args, 88)
if n == 0: os._exit(0)
if n > 0: os.waitpid(n, 0); got()
""",
    "mount": "os.mkdir('m'); libc.mount(b'none', b'm', b'tmpfs', 0, None) == 0 and (libc.umount2(b'm', 2), got())",
    "mount by the new calls": "n, e = call(430, b'tmpfs', 0); n >= 0 and got()",
    "bind mount by open_tree": "n, e = call(428, -100, b'/', 1); n >= 0 and got()",
    "change root": "os.chroot('.'); got()",
    "pivot root": _PROBED.format("155, b'/nowhere', b'/nowhere'"),
    "io_uring": "call(425, 1, ctypes.create_string_buffer(120))[0] >= 0 and got()",
    "bpf": _PROBED.format("321, 0, ctypes.create_string_buffer(120), 1"),
    "perf events": "call(298, struct.pack('II', 1, 128) + bytes(120), 0, -1, -1, 0)[0] >= 0 and got()",
    "user faults": "call(323, 1)[0] >= 0 and got()",
    "keys": "call(248, b'user', b'twofold-mine', b'x', 1, -2)[0] >= 0 and got()",
    "a module for the kernel": _PROBED.format("313, -1, b'', 0"),
    "another kernel": _PROBED.format("246, 0, 0, None, 1 << 20"),
    "restart": _PROBED.format("169, 0, 0, 0, None"),
    "swap": _PROBED.format("167, b'/nowhere', 0"),
    "input and output ports": _PROBED.format("172, 0"),
    "the host's name": "name = socket.gethostname().encode(); libc.sethostname(name, len(name)) == 0 and got()",
    "the clock": _PROBED.format("227, 0, struct.pack('qq', 0, -1)"),
    "accounting": _PROBED.format("163, b'/nowhere'"),
    "quotas": _PROBED.format("179, 0x80000200, b'/nowhere', 0, None"),
    "watch the whole disk": "call(300, 0, 0)[0] >= 0 and got()",
    "settings of the kernel": "os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY); got()",
    "the magic key": "os.open('/proc/sysrq-trigger', os.O_WRONLY); got()",
    "settings in /sys": "os.open(W['sys'], os.O_WRONLY); got()",
    "control groups": "os.open(W['cgroup'], os.O_WRONLY); got()",
    "write to a terminal": "os.write(os.open(W['terminal'], os.O_RDWR | os.O_NOCTTY), b'x'); got()",
    "type into a terminal (TIOCSTI)": "fcntl.ioctl(os.open(W['terminal'], os.O_RDWR | os.O_NOCTTY), 0x5412, b'x'); got()",
    "make the terminal its own": """
if os.fork() == 0:
    os.setsid()
    try: fcntl.ioctl(os.open(W['terminal'], os.O_RDWR | os.O_NOCTTY), 0x540E, 0)
    except OSError as error: print(error, flush=True); os._exit(0)
    os._exit(7)
os.wait()[1] == 7 << 8 and got()
""",
    "memory without a name": "os.write(os.memfd_create('x'), b'x'); got()",
}, quick=("user namespace", "namespace by clone3", "io_uring", "bpf", "write to a terminal"))  # fmt: skip


def _bomb(name: str, code: str, *, quick: bool = False, **limits: int) -> Attempt:
    return Attempt("resources", name, code, {**SMALL, **limits}, quick=quick)


RESOURCES = [
    _bomb("memory", "b = [bytearray(b'x') * 20_000_000 for _ in range(16)]; got()", quick=True),
    _bomb("memory of many processes", """
for _ in range(8):
    if os.fork() == 0:
        b = bytearray(b'x') * 40_000_000; time.sleep(2); os._exit(7)
sum(os.wait()[1] == 7 << 8 for _ in range(8)) == 8 and got()
"""),
    _bomb("memory that is shared", """
import mmap
m = [mmap.mmap(-1, 40_000_000) for _ in range(8)]
for one in m: one.write(b'x' * 40_000_000)
time.sleep(0.5); got()
"""),
    _bomb("memory in pipes and sockets", """
pairs, sent = [socket.socketpair() for _ in range(200)], 0
for a, b in pairs:
    a.setblocking(False)
    try:
        while True: sent += a.send(b'x' * 8192)
    except BlockingIOError: pass
time.sleep(0.5); sent > 10_000_000 and got(sent)
"""),
    _bomb("processes", """
n = 0
for _ in range(100):
    try: child = os.fork()
    except OSError: break
    if child == 0: time.sleep(2); os._exit(0)
    n += 1
n > 60 and got(n)
os._exit(0)
""", quick=True),
    _bomb("a fork bomb of orphans", """
made = 0
def burst(deep):
    for _ in range(6):
        try: child = os.fork()
        except OSError: continue
        if child == 0:
            if deep: burst(deep - 1)
            time.sleep(1.5); open(W['inside'] + '/alive%d' % os.getpid(), 'w').close(); os._exit(0)
burst(1); time.sleep(2.5)
len([f for f in os.listdir(W['inside']) if f.startswith('alive')]) > 30 and got()
os._exit(0)
"""),
    _bomb("threads", """
n = 0
threading.stack_size(65536)
try:
    for _ in range(600): threading.Thread(target=time.sleep, args=(9,), daemon=True).start(); n += 1
except RuntimeError: pass
time.sleep(4); n > 500 and got(n)
os._exit(0)
""", seconds=40),
    _bomb("processor", """
while time.process_time() < 3: pass
got()
""", cpu_s=1, seconds=40),
    _bomb("processor of many short processes", """
while sum(os.times()[:4]) < 3:
    if os.fork() == 0:
        stop = time.process_time() + 0.2
        while time.process_time() < stop: pass
        os._exit(0)
    os.wait()
got()
""", cpu_s=1, seconds=40),
    _bomb("time", "time.sleep(3); got()", seconds=1),
    _bomb("a large file", """
with open('f', 'wb') as f:
    for _ in range(40): f.write(bytes(1_000_000))
got()
""", quick=True),
    _bomb("many files", """
for n in range(40):
    with open('f%d' % n, 'wb') as f: f.write(bytes(1_000_000))
    time.sleep(0.02)
time.sleep(0.4); got()
"""),
    _bomb("files that are deleted and open", """
kept = []
for n in range(40):
    f = open('f', 'wb'); os.unlink('f'); f.write(bytes(1_000_000)); f.flush(); kept.append(f); time.sleep(0.02)
time.sleep(0.4); got()
"""),
    _bomb("files in a folder that is closed", """
os.mkdir('d'); os.chdir('d'); os.chmod('.', 0o300)
for n in range(40):
    with open('f%d' % n, 'wb') as f: f.write(bytes(1_000_000))
    time.sleep(0.02)
time.sleep(0.4); got()
"""),
    _bomb("files too deep to be counted", """
for n in range(40):
    os.mkdir('d' * 200); os.chdir('d' * 200)
for n in range(40):
    with open('f%d' % n, 'wb') as f: f.write(bytes(1_000_000))
    time.sleep(0.02)
time.sleep(0.4); got()
"""),
    _bomb("a great many empty files", """
for n in range(40_000): os.mknod('f%d' % n)
time.sleep(0.5); got()
""", seconds=40),
    _bomb("space set aside", "f = os.open('f', os.O_CREAT | os.O_RDWR); os.posix_fallocate(f, 0, 40_000_000); time.sleep(0.5); got()"),
    _bomb("memory as a disk", """
with open('/dev/shm/twofold-test-big-%d' % os.getpid(), 'wb') as f:
    os.unlink(f.name)
    for _ in range(40): f.write(bytes(1_000_000))
    got()
"""),
]  # fmt: skip

ALL = [*FILES, *SECRETS, *NETWORK, *PROCESSES, *KERNEL, *RESOURCES]
