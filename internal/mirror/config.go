package mirror

import (
	"crypto/tls"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// maxConfigs limits the cached configurations. One holds the keys of session tickets
// and little else.
const maxConfigs = 1024

// configKey identifies a configuration for clients. Clients of different hosts never
// share one, because a ticket of one host must not open a session of another.
type configKey struct {
	host     hostname.Host
	protocol string
	alpn     bool // the client has offered protocols
}

// configCache has the configurations for clients. The clients of a host share one, so
// that they can resume sessions.
type configCache struct {
	mu    sync.Mutex
	byKey map[configKey]*tls.Config
}

func (c *configCache) get(host hostname.Host, protocol string, alpn bool, leaf func(hostname.Host) (*tls.Certificate, error)) (*tls.Config, error) {
	key := configKey{host, protocol, alpn}
	c.mu.Lock()
	config := c.byKey[key]
	c.mu.Unlock()
	if config != nil {
		return config, nil
	}
	if _, err := leaf(host); err != nil { // so that a host without a certificate takes no place
		return nil, err
	}
	config = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return leaf(host) },
	}
	if alpn {
		config.NextProtos = []string{protocol}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if existing := c.byKey[key]; existing != nil {
		return existing, nil
	}
	if c.byKey == nil {
		c.byKey = make(map[configKey]*tls.Config)
	}
	for k := range c.byKey {
		if len(c.byKey) < maxConfigs {
			break
		}
		delete(c.byKey, k) // any one: its clients make a full handshake next time
	}
	c.byKey[key] = config
	return config, nil
}
