package doctor

// quorumLost is about the cluster not deciding anything.
var quorumLost = []Signature{
	{
		ID: "no-quorum", Severity: Serious,
		Any: [][]string{
			{"etcdserver: no leader"},
			{"failed to publish local member to cluster through raft"},
			{"serving /health false; no leader"},
			{"timed out waiting for read index response"},
			{"waiting for ReadIndex response took too long"},
			{"etcdserver: request timed out"},
		},
		Not:   []string{"leader transfer took too long"}, // one that stops waits in vain for another to lead
		Over:  []string{"published local member to cluster through raft", " elected leader ", "ready to serve client requests"},
		Means: "requests are not decided: there is no leader, or no majority answers it",
		Cause: "too many members are down or cannot be reached, or a disk or network is so slow that members take each other for dead",
		Next: []string{
			"steward health: how many voters can be reached", "bring the missing members back first",
			"only when they are lost for good: steward backup list, steward restore data-dir",
		},
		Source: "server/etcdserver",
	},
	{
		ID: "peer-unreachable", Severity: Warning,
		Any:   or("prober detected unhealthy status", "lost TCP streaming connection with remote peer", "peer became inactive", "failed to reach the peer URL"),
		Over:  []string{"peer became active", "established TCP streaming connection with remote peer"},
		Means: "another member is not reached", Cause: "it is down, its address changed, or the network between them is cut",
		Next: []string{"steward health", "a member that is lost for good: steward member replace NAME"}, Source: "server/etcdserver/api/rafthttp",
	},
	{
		ID: "leader-changes", Severity: Warning, Any: [][]string{{"lost leader", "at term"}}, Over: nil,
		Means: "the cluster lost its leader and chose another one", Cause: "a member was restarted; when it comes again and again, a slow disk or network, or too short an election-timeout",
		Next: []string{"steward health", "look for slow-disk and slow-heartbeat in the same log"}, Source: "raft node.go, raft.go",
	},
	{
		ID: "elections-fail", Severity: Serious, Any: or("is starting a new election at term"), Least: 5, Over: []string{" elected leader "},
		Means: "this member asks for votes again and again", Cause: "it reaches no majority of the members, or they do not take it for one of theirs",
		Next:   []string{"steward health: how many voters can be reached", "bring the missing members back; only when they are lost for good: steward backup list, steward restore data-dir"},
		Source: "raft raft.go",
	},
	{
		ID: "version-skew", Severity: Warning, Any: or("remotes server has mismatching etcd version", "leader found higher-versioned member", "due to server version incompatibility"), Over: nil,
		Means: "the members run different versions", Cause: "an upgrade that was not finished", Next: []string{"steward member list", "finish the upgrade, one member after the other"},
		Source: "server/etcdserver/version/monitor.go",
	},
}

// changes is about changes of the membership that etcd refuses.
var changes = []Signature{
	{
		ID: "unhealthy-cluster", Severity: Serious, Any: or("etcdserver: unhealthy cluster"), Over: nil,
		Means: "etcd refused to change its members", Cause: "a voter is down, or is connected for less than 5 seconds",
		Next:   []string{"steward member list", "wait 5 seconds and try again; a dead member is removed before another one is added: steward member replace NAME"},
		Source: "server/etcdserver/server.go, --strict-reconfig-check",
	},
	{
		ID: "not-enough-started", Severity: Serious, Any: or("re-configuration failed due to not enough started members"), Over: nil,
		Means: "etcd refused to change its members", Cause: "too many members were added and never started",
		Next: []string{"steward member list", "start them, or remove those that never started: steward member remove ID"}, Source: "server/etcdserver/server.go",
	},
	{
		ID: "too-many-learners", Severity: Warning, Any: or("too many learner members in cluster"), Over: nil,
		Means: "there is a learner already, and etcd allows one", Cause: "an addition was given up half-way",
		Next: []string{"steward member list", "steward member promote NAME, or steward member remove ID"}, Source: "server/etcdserver/api/membership/errors.go",
	},
	{
		ID: "learner-behind", Severity: Warning, Any: or("can only promote a learner member which is in sync"), Over: nil,
		Means: "the learner has not caught up with the leader", Cause: "it was added a moment ago, or it makes no progress",
		Next: []string{"steward member promote NAME, which waits", "when its applied index stands still in steward member list: look at its own log"}, Source: "server/etcdserver/server.go",
	},
	{
		ID: "peer-url-taken", Severity: Warning, Any: or("etcdserver: Peer URLs already exists", "etcdserver: member ID already exist"), Over: nil,
		Means: "a member with this peer URL is in the cluster", Cause: "an addition that was begun before, or the old member at the same address was not removed",
		Next: []string{"steward member list", "steward member replace NAME"}, Source: "api/v3rpc/rpctypes/error.go",
	},
}

// requests is about what clients are refused.
var requests = []Signature{
	{
		ID: "auth", Severity: Warning, Any: or("etcdserver: permission denied", "authentication failed, invalid user ID or password", "etcdserver: invalid auth token", "etcdserver: user name is empty"), Over: nil,
		Means: "a client may not do what it asks for", Cause: "a wrong user or password, a missing role, or a token that ended with an election",
		Next: []string{"steward config show: which user is used", "etcdctl user get USER, etcdctl role get ROLE"}, Source: "api/v3rpc/rpctypes/error.go",
	},
	{
		ID: "compacted", Severity: Warning, Any: or("mvcc: required revision has been compacted"), Over: nil,
		Means: "a client asked for history that was compacted", Cause: "expected after a restore with a bumped revision, and of a client that was away for long",
		Next: []string{"clients list again by themselves; restart those that repeat it for minutes"}, Source: "api/v3rpc/rpctypes/error.go",
	},
	{
		ID: "future-revision", Severity: Serious, Any: or("mvcc: required revision is a future revision"), Over: nil,
		Means: "a client knows a newer revision than this member has", Cause: "the member lags far behind, or the history was cut by a restore without a bumped revision",
		Next: []string{"steward health", "after a restore: restart every client that watches, the API servers first"}, Source: "api/v3rpc/rpctypes/error.go",
	},
	{
		ID: "request-too-large", Severity: Warning, Any: or("etcdserver: request is too large", "trying to send message larger than max"), Over: nil,
		Means: "a client sent a request that is larger than etcd takes", Cause: "an object of more than 1.5 MiB (max-request-bytes)",
		Next: []string{"make the object smaller; large values slow every member down"}, Source: "api/v3rpc/rpctypes/error.go",
	},
	{
		ID: "too-many-requests", Severity: Serious, Any: or("etcdserver: too many requests"), Over: nil,
		Means: "etcd applies slower than requests come", Cause: "a slow disk, or a client that floods", Next: []string{"steward health: the disk's latency", "look for slow-disk in the same log"},
		Source: "server/etcdserver/v3_server.go",
	},
}
