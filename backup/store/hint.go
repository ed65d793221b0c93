package store

import (
	"context"
	"errors"
)

// HintFor is one short next step for a person whose command failed with err, or "" when err did not come from a store or speaks for
// itself. It is never part of an error's text.
func HintFor(err error) string {
	switch KindOf(err) {
	case NotFound:
		return "see what the store holds: steward backup list"
	case Exists:
		return "another writer made this object first; see it with: steward backup list"
	case Changed:
		return "another process works on the same repository; try again when it is done"
	case Denied:
		return "compare the credentials' policy with docs/SECURITY.md; this role lacks the right for this operation"
	case BadCredentials:
		return "check the access key, its secret and its expiry: s3.profile, AWS_* variables, or the files in the configuration"
	case NoBucket:
		return "check the store URL; the bucket or folder is not made for you (is the disk mounted?)"
	case ClockSkew:
		return "set this machine's clock: chronyc tracking"
	case Unreachable:
		return "check s3.endpoint (https or http, name, port) and the network: curl -v ENDPOINT"
	case Untrusted:
		return "check s3.ca_file, and the certificate's names and dates: openssl s_client -connect HOST:PORT"
	case Locked:
		return "the object can be deleted when its lock ends; prune will try again then"
	case NoSpace:
		return "free space in the store, or raise its quota: steward backup prune --dry-run shows what retention would free"
	case Damaged:
		return "the bytes changed on the way or at their source; try again, and check memory and disk when it happens twice"
	case Unsupported:
		return "stewardd says in its log at the start what this store can do: journalctl -u stewardd"
	case Unavailable:
		return "the store has trouble of its own; try again later"
	case Invalid:
		return "check the store URL, s3.region and s3.path_style: steward config show"
	case SourceFailed:
		return "the local file could not be read: check the disk (dmesg)"
	case Interrupted:
		if errors.Is(err, context.DeadlineExceeded) {
			return "it took longer than allowed: raise --timeout"
		}
	}
	return ""
}
