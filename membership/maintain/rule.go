package maintain

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"etcd-steward/membership/probe"
)

// Rule says which members are worth a defragmentation.
type Rule struct {
	All bool
	// MinSize (bytes) and MinFree (share of the file, 0 to 1) must both be reached. Zero is the default.
	MinSize int64
	MinFree float64
	// QuotaShare is from which share of the quota on a member is defragmented whatever its fragmentation, when anything is free. Zero is the default.
	QuotaShare float64
}

// The defaults of a rule: those of OpenShift's operator, and the share of the quota at which one should act.
const (
	DefaultMinSize    = 100 << 20
	DefaultMinFree    = 0.45
	DefaultQuotaShare = 0.80
)

// Step is one member's defragmentation.
type Step struct {
	Member   uint64        `json:"-"`
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Endpoint string        `json:"endpoint"`
	Leader   bool          `json:"leader"` // it leads now: the leader is moved away first
	Size     int64         `json:"size"`
	InUse    int64         `json:"in_use"`
	Quota    int64         `json:"quota,omitempty"`
	Why      string        `json:"why"`
	Limit    time.Duration `json:"-"` // how long it is waited for
}

// Left is a member that is not defragmented.
type Left struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Defrag is what a rolling defragmentation is going to do.
type Defrag struct {
	Steps []Step `json:"steps"`
	Left  []Left `json:"left,omitempty"`
	// Single: the cluster is one member, and does not answer while that is defragmented.
	Single bool `json:"single_member"`
	// Idle: writes are refused anyway, so that a member which is away costs nothing.
	Idle bool `json:"idle,omitempty"`
	// MovesLeader: the last member leads, and there is another one to lead meanwhile.
	MovesLeader bool `json:"moves_leader"`
}

// PlanDefrag decides: followers first, the most fragmented before the others, the leader last.
func PlanDefrag(v *probe.View, r Rule) Defrag {
	r.MinSize, r.MinFree, r.QuotaShare = cmp.Or(r.MinSize, DefaultMinSize), cmp.Or(r.MinFree, DefaultMinFree), cmp.Or(r.QuotaShare, DefaultQuotaShare)
	agreed := v.Agreed()
	var d Defrag
	voters := 0
	for _, m := range agreed.Members {
		name, a := agreed.NameOf(m.ID), v.ByID(m.ID)
		if !m.Learner {
			voters++
		}
		switch {
		case a == nil || a.ClusterID != agreed.ClusterID:
			d.Left = append(d.Left, Left{name, "it does not answer"})
			continue
		case m.Learner:
			d.Left = append(d.Left, Left{name, "it is a learner"})
			continue
		}
		why, worth := r.worth(a)
		if !worth {
			d.Left = append(d.Left, Left{name, why})
			continue
		}
		d.Steps = append(d.Steps, Step{
			Member: m.ID, ID: fmt.Sprintf("%016x", m.ID), Name: name, Endpoint: a.Endpoint, Leader: m.ID == agreed.Leader,
			Size: a.DBSize, InUse: a.DBInUse, Quota: a.Quota, Why: why, Limit: limitOf(a.DBInUse),
		})
	}
	slices.SortStableFunc(d.Steps, func(a, b Step) int {
		if a.Leader != b.Leader {
			if a.Leader {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.Size-b.InUse, a.Size-a.InUse)
	})
	d.Single = voters == 1
	d.MovesLeader = voters > 1 && len(d.Steps) > 0 && d.Steps[len(d.Steps)-1].Leader
	return d
}

// worth says why a member is, or is not, worth it.
func (r Rule) worth(a *probe.Answer) (string, bool) {
	free, share := free(a.DBSize, a.DBInUse), 0.0
	if a.Quota > 0 {
		share = float64(a.DBSize) / float64(a.Quota)
	}
	text := fmt.Sprintf("%.0f %% of %s are free", free*100, bytes(a.DBSize))
	switch {
	case r.All:
		return text, true
	case a.DBSize >= r.MinSize && free >= r.MinFree:
		return text, true
	case share > r.QuotaShare && a.DBSize > a.DBInUse:
		return fmt.Sprintf("%s, and it is at %.0f %% of its quota", text, share*100), true
	case a.DBSize < r.MinSize:
		return fmt.Sprintf("%s, less than %s", bytes(a.DBSize), bytes(r.MinSize)), false
	}
	return fmt.Sprintf("%s, less than %.0f %%", text, r.MinFree*100), false
}

// free is the share of a file that is.
func free(size, inUse int64) float64 {
	if size <= 0 || inUse < 0 || inUse > size {
		return 0
	}
	return 1 - float64(inUse)/float64(size)
}

// limitOf is how long a defragmentation is waited for. It copies what is in use; when nobody waits any more, the member goes on all the same.
func limitOf(inUse int64) time.Duration {
	const perSecond = 50 << 20
	return 30*time.Second + time.Duration(max(0, inUse)/perSecond)*time.Second
}

// bytes is a size for a sentence.
func bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
