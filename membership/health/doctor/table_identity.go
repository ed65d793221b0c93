package doctor

// identity is about who a member is: a wiped disk, an old member, another cluster.
var identity = []Signature{
	{
		ID: "wiped-disk", Severity: Fatal, Any: [][]string{{"tocommit(", "is out of range [lastIndex("}}, Over: started,
		Means:  "this member lost data that it had acknowledged, and etcd refuses to go on",
		Cause:  "its data directory was wiped, or replaced by an older one, while the cluster still counts on what it had under this identity",
		Next:   []string{"steward member replace NAME", "never start it again under its old identity: it is removed, and added as a new member"},
		Source: "raft log.go; etcd issues 10951, 13509",
	},
	{
		ID: "already-bootstrapped", Severity: Fatal, Any: or("has already been bootstrapped"), Over: started,
		Means:  "this member has an empty data directory, and the cluster knows a member that has started under its name",
		Cause:  "the disk was wiped or another data-dir is configured, and initial-cluster-state is new",
		Next:   []string{"steward member replace NAME", "or, when the data directory is only in another place: point data-dir to it"},
		Source: "server/etcdserver/bootstrap.go",
	},
	{
		ID: "removed-member", Severity: Fatal, Any: or("the member has been permanently removed from the cluster", "request sent was ignored by peer"), Over: nil,
		Means:  "a member that was removed from the cluster is running, or tries to",
		Cause:  "it was removed while it was down, or its service was never disabled",
		Next:   []string{"steward member list", "on that host: stop etcd and keep it from starting; to have it back: steward member add NAME PEER_URL, with an empty data directory"},
		Source: "server/etcdserver/api/rafthttp/util.go",
	},
	{
		ID: "cluster-id", Severity: Serious, Any: or("request cluster ID mismatch", "due to cluster ID mismatch", "etcdserver: cluster ID mismatch"), Over: nil,
		Means:  "two members that reach each other belong to different clusters",
		Cause:  "one was started with another token or member list, or holds data from before a restore",
		Next:   []string{"steward health", "the member outside of the majority: stop it, rename its data directory, then steward member replace NAME"},
		Source: "server/etcdserver/api/rafthttp",
	},
	{
		ID: "stale-log", Severity: Serious, Any: [][]string{{"ignored snapshot [index:"}}, Over: nil,
		Means:  "this member refuses the leader's snapshot, because its own log says that it is further on",
		Cause:  "it holds data from before a restore, while the others were restored under the same cluster ID",
		Next:   []string{"steward health", "steward member replace NAME: its data cannot be joined with theirs"},
		Source: "raft raft.go",
	},
	{
		ID: "member-list", Severity: Fatal, Over: started,
		Any:   or("member count is unequal", "couldn't find local name", "error validating peerURLs"),
		Means: "what this member is told about the cluster is not what the cluster is",
		Cause: "initial-cluster, the member's name or its peer URL were not updated with the members, or name an address that the cluster does not know",
		Next:  []string{"steward member list", "write initial-cluster as that says, with this member's own name and peer URL"}, Source: "server/etcdserver/bootstrap.go, server/embed/config.go",
	},
	{
		ID: "downgraded", Severity: Fatal, Over: started,
		Any: [][]string{
			{"invalid downgrade; server version is"}, {"cannot downgrade storage"}, {"Failed to validate schema", "is not supported"}, {"discovery failed", "is not supported"},
		},
		Means: "this etcd is older than the data or the cluster that it shall serve",
		Cause: "the package or image was put back to an older minor version",
		Next: []string{
			"start the newer version again",
			"to go back on purpose, with all members up: etcdctl downgrade validate, etcdctl downgrade enable, then one member after the other",
		},
		Source: "server/etcdserver/version/downgrade.go, server/storage/schema/schema.go",
	},
	{
		ID: "upgrade-too-far", Severity: Fatal, Over: started, Any: or("detected disallowed v2 WAL", "detected disallowed custom content in v2store", "illegal v2store content"),
		Means: "this data directory holds content of etcd's v2 API, which this etcd no longer reads", Cause: "v2 was used, or the upgrade skipped a minor version",
		Next: []string{"start the version before", "etcdutl check v2store"}, Source: "server/etcdserver/bootstrap.go",
	},
}
