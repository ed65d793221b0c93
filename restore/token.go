package restore

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"etcd-steward/backup"
	"etcd-steward/backup/repo"
)

const (
	tokenPrefix = "steward-"
	tokenRandom = "random" // where such a token is from
)

// derivedToken is the token of a cluster of several members when none is given. Hosts that restore the same snapshot with the same bump and members agree on
// it without talking to each other; hosts that do not, get different cluster IDs, and etcd refuses to connect them.
// 80 bits are enough: nobody gains from a collision, and chance does not find one.
func derivedToken(snapshot repo.SHA256, bump int64, members string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "etcd-steward restore\n%s\n%d\n%s\n", snapshot, bump, members))
	return tokenPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// pointSum is what members of one cluster must have in common of a restore point: the snapshot, and the revision when it is another one.
func pointSum(l *backup.Located) *repo.SHA256 {
	sum := l.Snapshot.Database.SHA256
	if l.Rebuilt() {
		sum = sha256.Sum256(fmt.Appendf(nil, "%s\nrevision %d\n", sum, l.Revision))
	}
	return &sum
}

// randomToken is for a single member: nobody has to agree with it, so it is never the same twice.
func randomToken() string { return tokenPrefix + strings.ToLower(ulid.Make().String()) }
