// Package version says which build of etcd-steward this is. The build stamps the values in (Makefile, LDFLAGS);
// a plain `go build` leaves them at what the module itself knows.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version and Commit are set by the linker.
var (
	Version = "devel"
	Commit  = "unknown"
)

// Info is what `version` prints.
type Info struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	Etcd    string `json:"etcd_libraries"`
	OS      string `json:"platform"`
}

// Get returns the build's own description.
func Get() Info {
	i := Info{Version: Version, Commit: Commit, Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, d := range b.Deps {
			if d.Path == "go.etcd.io/etcd/server/v3" {
				i.Etcd = d.Version
			}
		}
	}
	return i
}

// String is one line for people.
func (i Info) String() string {
	return fmt.Sprintf("etcd-steward %s (commit %s, etcd libraries %s, %s, %s)", i.Version, i.Commit, i.Etcd, i.Go, i.OS)
}
