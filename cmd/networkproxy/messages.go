// What the program says on standard error: lines for people, or JSON objects
// with -log-format json.

package main

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// report writes one sentence. A JSON object has attrs as well.
func (p *program) report(level slog.Level, sentence string, attrs ...slog.Attr) {
	switch {
	case p.json:
		p.record(level, sentence, attrs...)
	case level == slog.LevelWarn:
		p.print(p.paint(yellow, "networkproxy: warning: "+escapeControls(sentence)+"\n"))
	default:
		p.print("networkproxy: " + escapeControls(sentence) + "\n")
	}
}

// escapeControls returns text with an escape in place of each control character except the ends of lines, and of each
// character that changes the direction of text. Errors of the system contain file names as they are.
func escapeControls(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// print writes text after the pending lines of the log.
func (p *program) print(text string) {
	io.WriteString(&p.log, text)
	p.log.Flush()
}

// record writes a JSON object with the form of a log line.
func (p *program) record(level slog.Level, message string, attrs ...slog.Attr) {
	r := slog.NewRecord(time.Now(), level, message, 0)
	r.AddAttrs(attrs...)
	slog.NewJSONHandler(&p.log, nil).Handle(context.Background(), r) // an error cannot be reported anywhere
	p.log.Flush()
}

// Colors of refusals and warnings on a terminal.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// paint adds a color to each line if standard error shows colors.
func (p *program) paint(color, lines string) string {
	if !p.color {
		return lines
	}
	var b strings.Builder
	for line := range strings.Lines(lines) {
		b.WriteString(color + strings.TrimSuffix(line, "\n") + reset + "\n")
	}
	return b.String()
}

// paintedLog colors lines of the text log: refusals red, warnings yellow.
type paintedLog struct{ p *program }

func (l paintedLog) Write(line []byte) (int, error) {
	_, rest, _ := strings.Cut(string(line), " ") // after the time
	color := ""
	switch {
	case strings.HasPrefix(rest, "level=INFO msg=refused "):
		color = red
	case strings.HasPrefix(rest, "level=WARN "):
		color = yellow
	default:
		return l.p.log.Write(line)
	}
	if _, err := io.WriteString(&l.p.log, l.p.paint(color, string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
