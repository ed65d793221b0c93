package restore

import (
	"fmt"

	"etcd-steward/internal/fail"
)

const (
	// logNeed is what etcd's package allocates for a write-ahead log: two files of 64 MB, of which one stays.
	logNeed = 128 << 20
	// editNeed is for the pages that the edit adds.
	editNeed = 16 << 20
)

// checkDisk refuses what cannot fit. What leftovers hold will be free by then.
func (p *Plan) checkDisk() error {
	free := func(pl place) (int64, error) {
		n, err := freeBytes(pl.parentOf())
		for _, dir := range p.Leftovers {
			n += diskUse(dir)
		}
		return n, err
	}
	content := p.Source.Size + trailerSize
	if p.Source.Size == 0 {
		content = p.Source.Stored
	}
	p.DiskNeed = content + editNeed
	var likely int64
	if p.point != nil {
		var least int64
		least, likely = p.point.Growth()
		p.DiskNeed, likely = p.DiskNeed+least, likely-least
	}
	if p.placement.wal == nil {
		p.DiskNeed += logNeed
	}
	var err error
	if p.DiskFree, err = free(p.placement.data); err != nil {
		return err
	}
	refuse := func(dir string, need, free int64) error {
		return fail.Refused(fmt.Errorf("%s: %d MiB are needed, %d MiB are free", dir, need>>20, free>>20), "make room, or restore to another disk with --data-dir")
	}
	if p.DiskFree < p.DiskNeed {
		return refuse(p.DataDir, p.DiskNeed, p.DiskFree)
	}
	if p.DiskFree < p.DiskNeed+likely {
		p.Notes = append(p.Notes, fmt.Sprintf("the change log may make the database larger by up to some %d MiB more than is free: if so, the restore fails and leaves nothing behind", (p.DiskNeed+likely-p.DiskFree)>>20+1))
	}
	if p.placement.wal != nil {
		walFree, err := free(*p.placement.wal)
		if err != nil {
			return err
		}
		if walFree < logNeed {
			return refuse(p.WALDir, logNeed, walFree)
		}
	}
	return nil
}
