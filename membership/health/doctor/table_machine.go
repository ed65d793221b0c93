package doctor

// transport is about TLS between members, and between them and clients.
var transport = []Signature{
	{
		ID: "certificate-expired", Severity: Serious, Any: or("certificate has expired or is not yet valid", "remote error: tls: expired certificate"), Over: nil,
		Means: "a certificate is expired, or not valid yet", Cause: "it was not renewed, or a clock is wrong",
		Next:   []string{"steward health: the expiry of every certificate", "kubeadm: kubeadm certs renew all; else issue it again, with the same names", "date, on both hosts"},
		Source: "crypto/x509",
	},
	{
		ID: "certificate-names", Severity: Serious, Any: or("certificate is valid for ", "doesn't contain any IP SANs", "certificate is not valid for any names"), Over: nil,
		Means: "a certificate does not name the address at which it is used", Cause: "a member has a new address, or the certificate was issued without it",
		Next: []string{"issue it again with every address and name of the member, and 127.0.0.1 and localhost", "steward health"}, Source: "crypto/x509",
	},
	{
		ID: "certificate-authority", Severity: Serious,
		Any:   or("certificate signed by unknown authority", "tls: unknown certificate authority"),
		Means: "one side does not trust the authority that signed the other's certificate", Cause: "members or clients have different CA files, or a CA was changed without the old one in the bundle",
		Next: []string{"give all the same CA bundle, old and new together, and restart etcd: it reads CA files only at its start", "steward health"}, Source: "crypto/x509",
	},
	{
		ID: "bad-certificate", Severity: Serious, Any: or("remote error: tls: bad certificate", "x509: certificate specifies an incompatible key usage"),
		Means: "one side refuses the other's certificate", Cause: "another authority, a missing name or address, an expiry, or a use that the certificate does not allow (clientAuth, serverAuth)",
		Next: []string{"the log of the side that refused says why", "steward health", "openssl verify -CAfile CA CERT; openssl x509 -noout -text -in CERT"}, Source: "crypto/tls",
	},
	{
		ID: "no-client-certificate", Severity: Warning, Any: or("client didn't provide a certificate", "remote error: tls: certificate required"),
		Means: "a client showed no certificate, and etcd wants one", Cause: "a client or a health check without --cert and --key",
		Next: []string{"steward config show: which certificate is used"}, Source: "crypto/tls",
	},
	{
		ID: "plaintext", Severity: Warning,
		Any:   or("first record does not look like a TLS handshake", "server gave HTTP response to HTTPS client", "client sent an HTTP request to an HTTPS server"),
		Means: "one side speaks TLS and the other does not", Cause: "http:// in an endpoint or a peer URL where the other has https://, or the reverse",
		Next: []string{"steward member list: the scheme of each URL"}, Source: "crypto/tls, net/http",
	},
	{
		ID: "key-pair", Severity: Fatal, Any: or("tls: private key does not match public key", "tls: failed to find any PEM data"), Over: started,
		Means: "the certificate and the key that etcd was given do not fit", Cause: "only one of the two was renewed, or a file is empty or holds something else",
		Next: []string{"openssl x509 -noout -pubkey -in CERT; openssl pkey -pubout -in KEY: must be the same"}, Source: "crypto/tls",
	},
	{
		ID: "clock", Severity: Warning, Any: or("prober found high clock drift"), Over: nil,
		Means: "the clocks of two members differ by more than a second", Cause: "time synchronisation does not work on one of them",
		Next: []string{"timedatectl, on both hosts", "steward health"}, Source: "server/etcdserver/api/rafthttp/probing_status.go",
	},
}

// machine is about the host that etcd runs on, and how it is started.
var machine = []Signature{
	{
		ID: "address-in-use", Severity: Fatal, Any: or("bind: address already in use"), Over: started,
		Means: "another process has etcd's port", Cause: "another etcd runs on this host, as a unit and as a static pod, or one that does not end",
		Next: []string{"ss -ltnp '( sport = :2379 or sport = :2380 )'", "steward config show: which etcd is set up here"}, Source: "net",
	},
	{
		ID: "address-unknown", Severity: Fatal, Any: or("bind: cannot assign requested address"), Over: started,
		Means: "etcd shall listen on an address that this host does not have", Cause: "the host's address changed, or the configuration is another host's",
		Next:   []string{"ip address", "the address changed for good: steward member update NAME PEER_URL, then the listen and advertise URLs"},
		Source: "net",
	},
	{
		ID: "data-dir-access", Severity: Fatal, Over: started,
		Any: [][]string{
			{"cannot access data directory"},
			{"cannot access member directory"},
			{"failed to open", ": permission denied"},
			{"failed to create", ": permission denied"},
			{"mkdir /", ": permission denied"},
			{"open /", ": permission denied"},
		},
		Means: "etcd may not read or write its files", Cause: "wrong owner or mode, often after a restore as root, or SELinux",
		Next: []string{"ls -ldZ DATA_DIR DATA_DIR/member", "chown -R etcd: DATA_DIR; chmod 700 DATA_DIR; restorecon -R DATA_DIR"}, Source: "server/etcdserver/bootstrap.go, client/pkg/fileutil",
	},
	{
		ID: "data-dir-locked", Severity: Fatal, Any: or("db file is flocked by another process", "fileutil: file already locked"), Over: started,
		Means: "another etcd has this data directory open", Cause: "two services of one host, or a process that does not end",
		Next: []string{"fuser -v DATA_DIR/member/snap/db"}, Source: "server/etcdserver/bootstrap.go",
	},
	{
		ID: "disk-full", Severity: Fatal, Any: or("no space left on device", "disk quota exceeded"), Over: started,
		Means: "the disk is full", Cause: "something else fills it, old copies of data directories lie beside this one, or the volume is too small",
		Next: []string{"df -h DATA_DIR; df -i DATA_DIR", "move what is not etcd's away; never delete below member/"}, Source: "the kernel's ENOSPC",
	},
	{
		ID: "disk-fails", Severity: Fatal, Any: or("input/output error", "read-only file system", "structure needs cleaning"), Over: nil,
		Means: "the disk fails", Cause: "hardware, a volume that was detached, or a file system that was remounted read-only",
		Next: []string{"dmesg -T, smartctl -a DEVICE", "steward member replace NAME, on another disk"}, Source: "the kernel's EIO, EROFS, EUCLEAN",
	},
	{
		ID: "flags", Severity: Fatal, Over: started,
		Any: [][]string{
			{"flag provided but not defined"},
			{"failed to verify flags"},
			{"conflicting environment variable"},
			{"error unmarshaling JSON"},
			{"error setting up initial cluster"},
		},
		Means: "etcd refuses how it is configured", Cause: "a flag that this version does not have (3.7 dropped --experimental-*), or flags that contradict each other",
		Next: []string{"steward config show", "etcd --help, of the version that is installed"}, Source: "server/etcdmain/config.go",
	},
	{
		ID: "killed", Severity: Serious, Any: or("fatal error: runtime: out of memory", "Out of memory: Killed process", "oom-kill", "cannot allocate memory"), Over: started,
		Means: "etcd was ended for want of memory", Cause: "the host or the unit's limit is too small for the database",
		Next: []string{"journalctl -k -g oom", "raise the memory limit: etcd needs several times the database's size"}, Source: "Go's runtime, the kernel",
	},
}

// slowness is about a member that works, too slowly.
var slowness = []Signature{
	{
		ID: "slow-disk", Severity: Warning, Any: or("slow fdatasync"), Over: nil,
		Means: "a write to the log took more than a second to reach the disk", Cause: "a slow or shared disk, backups or antivirus on it",
		Next: []string{"steward health: the disk's latency", "fio --rw=write --ioengine=sync --fdatasync=1 --size=22m --bs=2300 --directory=DATA_DIR: 99 % below 10 ms"}, Source: "server/storage/wal/wal.go",
	},
	{
		ID: "slow-heartbeat", Severity: Warning, Any: or("leader failed to send out heartbeat on time"), Over: nil,
		Means: "the leader was too busy to send its heartbeats", Cause: "a slow disk, or too little CPU", Next: []string{"steward health", "look for slow-disk in the same log"},
		Source: "server/etcdserver/raft.go",
	},
	{
		ID: "slow-apply", Severity: Warning, Any: or("apply request took too long"), Over: nil,
		Means: "requests take longer than 100 ms", Cause: "large ranges, a slow disk, too little CPU, or a defragmentation",
		Next: []string{"the line names the request: a client that lists everything should list in pages"}, Source: "server/etcdserver/txn",
	},
	{
		ID: "raft-buffer-full", Severity: Warning, Any: or("dropped internal Raft message since sending buffer is full"), Over: nil,
		Means: "messages to another member are dropped", Cause: "it is overloaded, or the network to it is too slow",
		Next: []string{"steward health"}, Source: "server/etcdserver/api/rafthttp/peer.go",
	},
}
