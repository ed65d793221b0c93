package repo

// NextTimeline decides on which timeline a snapshot of cluster id belongs, whose bytes say revision rev, taken from a member at raft
// term, with a quorum or without.
//
// A cluster ID without a manifest begins cut 1. Otherwise the newest backup of its newest cut decides (last is that
// backup's manifest, Catalog.NewestOf; nil when it could not be read, then its name must do). With quorum, a revision below that backup's, or a
// raft term below its, proves that history was cut: the cluster was restored under its old token, or forced back by a survivor that lagged; etcd's revision
// and raft term only grow within one life of a cluster. Then the snapshot begins the next cut. Without quorum a lower revision proves nothing: a member that
// lags holds a valid prefix.
//
// The catalog must have been listed before the snapshot's stream began: what another daemon published since may well be newer than this
// snapshot. A history that was cut and has since passed both the revision and the term is not noticed here.
func NextTimeline(c *Catalog, last *Manifest, id ClusterID, rev Revision, term uint64, quorum bool) Timeline {
	newest, ok := c.newest(id, func(e Entry) bool { return e.Manifest.Key != "" }) // also one whose data was lost
	if !ok {
		return Timeline{Cluster: id, Cut: max(1, c.CutOf(id))}
	}
	t := newest.Timeline
	cut := rev < newest.Revision
	if last != nil && last.Timeline == t {
		cut = cut || rev < last.Database.Revision || term < last.Source.RaftTerm
	}
	if quorum && cut {
		t.Cut++
	}
	// A recorder compares events, too, and so may have noticed what this snapshot cannot show.
	t.Cut = max(t.Cut, c.CutOf(id))
	return t
}
