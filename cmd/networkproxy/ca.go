// The ca command makes a certificate authority that outlives the program.

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"

	"example.com/networkproxy/internal/ca"
)

func (p *program) ca(f *flag.FlagSet) func(context.Context) error {
	dir := f.String("out", "", "`directory` for the two files; it is created if it does not exist")
	return func(context.Context) error {
		if f.NArg() > 0 {
			return usagef("unexpected argument %s", quote(f.Arg(0)))
		}
		if *dir == "" {
			return usagef("name the directory for the files with -out")
		}
		abs, err := filepath.Abs(*dir) // a configuration is read from another directory
		if err != nil {
			return err
		}
		pair, err := ca.WritePair(abs)
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.stdout, describePair(pair))
		return err
	}
}

// describePair says what was written and how to use it.
func describePair(p ca.Pair) string {
	return fmt.Sprintf("wrote %s (certificate of %q, valid until %s)\nwrote %s (private key; keep it secret)\n\n"+
		"To use them, write in the configuration:\n\n  [network_proxy]\n  mitm = true\n  mitm_ca_cert = %q\n  mitm_ca_key = %q\n\n"+
		"Whoever has the key can pretend to be any server to clients that trust the certificate.\n"+
		"Keep it out of the reach of commands, and have only those clients trust the certificate\n"+
		"that use the proxy. Sessions get it in their environment; other clients need the first file.\n",
		p.CertFile, p.Name, p.NotAfter.UTC().Format("2006-01-02"), p.KeyFile, p.CertFile, p.KeyFile)
}
