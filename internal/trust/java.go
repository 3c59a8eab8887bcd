// The trust store of Java.

package trust

import "strings"

const (
	javaVariable = "JAVA_TOOL_OPTIONS"
	javaOption   = "-Djavax.net.ssl.trustStore"
)

// setJava adds the option that names the trust store to the options that every JVM reads. It adds none to options that choose a
// trust store, because the store may need a password.
func (f *Files) setJava(child *environment, base *bundle) error {
	chosen := false
	for _, entry := range child.entries {
		// Options of other variables, such as MAVEN_OPTS, override those of JAVA_TOOL_OPTIONS.
		if name, value, _ := strings.Cut(entry, "="); strings.Contains(value, javaOption) {
			chosen = chosen || sameName(javaVariable, name)
			f.store.warn("a variable chooses a trust store for Java; it stays as it is, and Java will not trust the proxy unless the store has its certificate", "variable", name)
		}
	}
	if chosen {
		return nil
	}
	path, err := f.put("trust.jks", base.jks())
	if err != nil {
		return err
	}
	option, ok := quoteJava(javaOption + "=" + path)
	if !ok {
		f.store.warn("the path of the trust store for Java cannot be quoted; Java will not trust the proxy", "path", path)
		return nil
	}
	child.set(javaVariable, strings.TrimSpace(child.get(javaVariable)+" "+option))
	return nil
}

// quoteJava returns an option as a word of JAVA_TOOL_OPTIONS. The JVM ends a word at white space outside quotes, and knows no
// escapes.
func quoteJava(option string) (string, bool) {
	switch {
	case !strings.ContainsAny(option, " \t\r\n\v\f'\""):
		return option, true
	case !strings.Contains(option, `"`):
		return `"` + option + `"`, true
	case !strings.Contains(option, `'`):
		return `'` + option + `'`, true
	}
	return "", false
}
