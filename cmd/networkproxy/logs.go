// The log flags that the commands share.

package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
)

type logOptions struct {
	format *string
	level  *string
}

func logFlags(f *flag.FlagSet) logOptions {
	return logOptions{
		format: f.String("log-format", "text", "`format` of the log on standard error: text or json"),
		level:  f.String("log-level", "info", "least `level` logged: debug, info, warn or error"),
	}
}

func (o logOptions) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(*o.level)); err != nil {
		return nil, fmt.Errorf("-log-level %q: use debug, info, warn or error", *o.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch *o.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("-log-format %q: use text or json", *o.format)
}
