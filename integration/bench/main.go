// Command bench measures what docs/BENCHMARKS.md says: each figure is a ratio of two things that were run in turn on this machine,
// because absolute times vary from run to run. It writes the numbers as they are, also when they fall short of their target.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"etcd-steward/integration/lab"
)

func main() {
	out := flag.String("o", "", "write the page here (default: standard output)")
	size := flag.Int("mb", 2000, "size of the database in MB")
	rounds := flag.Int("rounds", 5, "how often each pair is run")
	only := flag.String("only", "", "comma-separated parts: snapshot, restore, rebuild, record, list, health, replace (default: all)")
	child := flag.Bool("child", false, "run one rebuild as standard input says (for this program itself)")
	flag.Parse()
	if *child {
		os.Exit(runChild())
	}
	os.Exit(lab.Run(func(t lab.T) {
		b := &bench{T: t, mb: *size, rounds: *rounds}
		for _, part := range []struct {
			name string
			run  func()
		}{{"snapshot", b.snapshots}, {"restore", b.restores}, {"rebuild", b.rebuilds}, {"record", b.records}, {"list", b.lists}, {"health", b.health}, {"replace", b.replaces}} {
			if *only == "" || slices.Contains(strings.Split(*only, ","), part.name) {
				part.run()
			}
		}
		page := b.page()
		if *out == "" {
			fmt.Print(page)
			return
		}
		if err := os.WriteFile(*out, []byte(page), 0o644); err != nil {
			t.Fatalf("write %s: %v", *out, err)
		}
	}))
}

// bench is one run: what it has started, and what it has found.
type bench struct {
	lab.T
	mb, rounds int
	rig        *rig
	figures    []figure
}

// figure is one line of the page.
type figure struct {
	what, target string
	value        float64
	format       string // of value
	ok           bool
	detail       string // the two sides, in seconds
}

// ratio adds the median of a[i]/b[i], where the two were run in turn.
func (b *bench) ratio(what string, limit float64, aName string, a []float64, bName string, c []float64) {
	b.Helper()
	b.ratioIn("s", what, limit, aName, a, bName, c)
}

// ratioIn is ratio for values in another unit than seconds.
func (b *bench) ratioIn(unit, what string, limit float64, aName string, a []float64, bName string, c []float64) {
	var r []float64
	for i := range a {
		r = append(r, a[i]/c[i])
	}
	v := median(r)
	f := figure{
		what: what, target: fmt.Sprintf("≤ %.2f", limit), value: v, format: "%.2f", ok: v <= limit,
		detail: fmt.Sprintf("%s %s %s; %s %s %s; ratios %s", aName, list(a), unit, bName, list(c), unit, list(r)),
	}
	b.add(f)
}

func (b *bench) limit(what string, limit float64, unit string, values []float64) {
	v := slices.Max(values)
	b.add(figure{what: what, target: fmt.Sprintf("≤ %g %s", limit, unit), value: v, format: "%.1f " + strings.ReplaceAll(unit, "%", "%%"), ok: v <= limit, detail: "highest of " + list(values)})
}

func (b *bench) add(f figure) {
	b.figures = append(b.figures, f)
	fmt.Fprintf(os.Stderr, "bench: %s: "+f.format+" (target %s)\n       %s\n", f.what, f.value, f.target, f.detail)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func list(v []float64) string {
	var s []string
	for _, x := range v {
		s = append(s, fmt.Sprintf("%.2f", x))
	}
	return strings.Join(s, " ")
}
