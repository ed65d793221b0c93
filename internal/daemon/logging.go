package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
)

// logging is a slog handler whose level and format can change while loggers made from it are in use: a reload needs that.
type logging struct {
	settings   *logSettings
	text, json slog.Handler
}

type logSettings struct {
	level slog.LevelVar
	json  atomic.Bool
}

// newLogging writes to w. Under systemd's journal, which keeps the time itself, text lines carry none (JOURNAL_STREAM, systemd.exec(5)).
func newLogging(w io.Writer) *logging {
	s := &logSettings{}
	text := &slog.HandlerOptions{Level: &s.level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		text.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return &logging{settings: s, text: slog.NewTextHandler(w, text), json: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: &s.level})}
}

// set takes the config's words, which were checked.
func (l *logging) set(level, format string) {
	l.settings.json.Store(format == "json")
	var v slog.Level
	if err := v.UnmarshalText([]byte(level)); err != nil {
		panic("unreachable: a log level that was checked: " + err.Error())
	}
	l.settings.level.Set(v)
}

var _ slog.Handler = (*logging)(nil)

// Enabled, Handle, WithAttrs and WithGroup are slog.Handler.
func (l *logging) Enabled(_ context.Context, v slog.Level) bool { return v >= l.settings.level.Level() }

// Handle writes one line in the format of the moment.
func (l *logging) Handle(ctx context.Context, r slog.Record) error {
	if l.settings.json.Load() {
		return l.json.Handle(ctx, r)
	}
	return l.text.Handle(ctx, r)
}

// WithAttrs keeps both formats.
func (l *logging) WithAttrs(as []slog.Attr) slog.Handler {
	return &logging{settings: l.settings, text: l.text.WithAttrs(as), json: l.json.WithAttrs(as)}
}

// WithGroup keeps both formats.
func (l *logging) WithGroup(name string) slog.Handler {
	return &logging{settings: l.settings, text: l.text.WithGroup(name), json: l.json.WithGroup(name)}
}
