package term

import (
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// maxBars bounds how many stages are drawn; further ones are not shown.
const maxBars = 16

// Bars draws one bar per stage of some work while it goes on. Nothing is written when w is no terminal.
// The zero value draws nothing.
type Bars struct {
	mu     sync.Mutex
	w      progress.Writer
	stages map[string]*progress.Tracker
	done   chan struct{}
}

// NewBars starts to draw on w if that is a terminal. Close must be called before anything else is written there.
func NewBars(w io.Writer) *Bars {
	if !IsTerminal(w) {
		return &Bars{}
	}
	return newBars(w)
}

func newBars(w io.Writer) *Bars {
	pw := progress.NewWriter()
	pw.SetOutputWriter(w)
	pw.SetAutoStop(false)
	pw.SetTrackerLength(24)
	pw.SetMessageLength(12)
	pw.SetUpdateFrequency(200 * time.Millisecond)
	style := progress.StyleBlocks
	style.Options.PercentFormat = "%3.0f%%"
	style.Options.Separator = " "
	style.Options.DoneString = "done"
	style.Options.ErrorString = "stopped"
	style.Options.TimeInProgressPrecision = time.Second
	style.Options.TimeDonePrecision = 100 * time.Millisecond
	style.Options.SpeedPrecision = time.Second
	style.Options.SpeedSuffix = "/s"
	style.Visibility.TrackerOverall = false
	style.Visibility.Speed = true
	style.Visibility.ETA = true
	pw.SetStyle(style)
	b := &Bars{w: pw, stages: map[string]*progress.Tracker{}, done: make(chan struct{})}
	go func() {
		pw.Render()
		close(b.done)
	}()
	return b
}

// Update says how many bytes of a stage's total are done; a total of 0 or less means that it is not known. A stage is done when
// both are equal. It is safe for concurrent use, and cheap.
func (b *Bars) Update(stage string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w == nil {
		return
	}
	t := b.stages[stage]
	if t == nil {
		if len(b.stages) == maxBars {
			return
		}
		t = &progress.Tracker{Message: stage, Total: max(total, 0), Units: progress.Units{Formatter: Bytes}, AutoStopDisabled: true}
		b.stages[stage] = t
		b.w.AppendTracker(t)
	}
	if total > 0 && total != t.Total {
		t.UpdateTotal(total)
	}
	t.SetValue(done)
	if total > 0 && done >= total {
		t.MarkAsDone()
	}
}

// Close stops drawing and returns when the last line is written. Stages that are not done are shown as stopped unless ok.
// It may be called again.
func (b *Bars) Close(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w == nil {
		return
	}
	for _, t := range b.stages {
		switch {
		case t.IsDone():
		case ok:
			t.MarkAsDone()
		default:
			t.MarkAsErrored()
		}
	}
	// A Stop that comes before Render has begun is lost, hence again until it has ended.
	for ended := false; !ended; {
		b.w.Stop()
		select {
		case <-b.done:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	b.w = nil
}
