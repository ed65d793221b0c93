package doctor

// data is about what the disk holds.
var data = []Signature{
	{
		ID: "divergence", Severity: Fatal,
		Any: [][]string{
			{"found data inconsistency with peers"},
			{"found hash mismatch"},
			{"Detected compaction hash mismatch"},
			{"etcdserver: corrupt cluster"},
			{"alarm raised", "CORRUPT"},
			{"found different hash values from remote peer"},
			{"found different hash values"},
		},
		Over:  []string{"initial corruption checking passed"},
		Means: "this member's data are not what the others have",
		Cause: "a member was brought up with data from before a restore, a bug of an old version (3.5.0 to 3.5.2), or a disk that lies",
		Next: []string{
			"steward health: which member differs", "steward backup create, from the majority, and steward backup verify --deep",
			"keep the odd member's data for later, and steward member replace NAME", "steward alarm disarm, once all hashes are equal",
		},
		Source: "server/etcdserver/corrupt.go",
	},
	{
		ID: "raft-log", Severity: Fatal, Any: [][]string{{"state.commit", "is out of range ["}, {"applied(", "is out of range [prevApplied("}, {"applied index", "is newer than"}}, Over: started,
		Means: "the write-ahead log and the database of this member do not belong together", Cause: "one of them was lost, cut or copied alone",
		Next:   []string{"steward member replace NAME", "a copy of a data directory needs member/wal and member/snap of one moment: steward backup create makes one"},
		Source: "raft raft.go, log.go",
	},
	{
		ID: "wal-damaged", Severity: Fatal, Over: started,
		Any: [][]string{
			{"walpb: crc mismatch"},
			{"wal: crc mismatch"},
			{"wal: file not found"},
			{"wal: slice bounds out of range"},
			{"[wal] max entry size limit exceeded"},
			{"failed to open WAL"},
			{"failed to read WAL"},
			{"snap: crc mismatch"},
		},
		Means: "this member's write-ahead log is damaged", Cause: "a failing disk, a power cut on storage that lies about fsync, or files that were removed",
		Next: []string{"steward member list", "with a quorum of others: steward member replace NAME", "check the disk: dmesg, smartctl"}, Source: "server/storage/wal",
	},
	{
		ID: "db-damaged", Severity: Fatal, Over: started,
		Any: [][]string{
			{"failed to open database", "invalid database"},
			{"failed to recover v3 backend from snapshot"},
			{"page", "already freed"},
			{"snap: snapshot file doesn't exist"},
			{"assertion failed: Page expected to be"},
			{"unexpected fault address"},
			{"failed to open snapshot backend"},
			{"file size too small"},
			{"failed to open database", "version mismatch"},
			{"failed to open database", "checksum error"},
			{"invalid page type"},
		},
		Means: "this member's database file is damaged", Cause: "a failing disk, a file that was cut or copied while etcd ran",
		Next: []string{"steward member list", "with a quorum of others: steward member replace NAME", "without one: steward backup list, steward restore data-dir"}, Source: "bbolt, server/storage/backend",
	},
	{
		ID: "nospace", Severity: Serious, Any: [][]string{{"mvcc: database space exceeded"}, {"alarm raised", "NOSPACE"}, {"message exceeded backend quota"}, {"etcdserver: no space"}}, Over: []string{"alarm disarmed"},
		Means: "the database reached its quota, and etcd accepts no more writes", Cause: "history is not compacted, the file is fragmented, or there is too much data for quota-backend-bytes",
		Next: []string{"steward nospace"}, Source: "server/etcdserver/apply",
	},
	{
		ID: "quota-large", Severity: Warning, Any: or("quota exceeds the maximum value"), Over: nil,
		Means: "quota-backend-bytes is larger than etcd recommends", Cause: "more than 8 GiB are configured",
		Next: []string{"steward health: how long starting and defragmenting such a file takes is your choice"}, Source: "server/storage/quota.go",
	},
	{
		ID: "snapshot-file", Severity: Fatal, Any: [][]string{{"expected sha256", "got"}, {"snapshot missing hash but --skip-hash-check=false"}, {"snapshot file integrity check failed"}}, Over: nil,
		Means: "a snapshot file is damaged, was cut, or is a copy of a database file", Cause: "an incomplete download, a disk, or a file from member/snap/db, which has no checksum",
		Next: []string{"steward backup list, steward backup verify: another copy", "never --skip-hash-check for a file that has a checksum"}, Source: "etcdutl/snapshot/v3_snapshot.go",
	},
}
