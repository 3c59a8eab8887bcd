package networkproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"

	"example.com/networkproxy"
)

// runFenced runs a command in a fence of a session. It returns the output of the command
// and what the policy refused.
func runFenced(ctx context.Context, session *networkproxy.Session, argv, env []string) (string, error) {
	fence, err := session.Fence(ctx, networkproxy.FenceConfig{})
	if err != nil {
		return "", err
	}
	defer fence.Close()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = fence.Environ(env)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := fence.Start(cmd); err != nil { // in the place of cmd.Start
		return "", err // a *FenceError if there is no fence: the command has not run
	}
	err = cmd.Wait()
	return output.String() + session.Report(), err
}

// In a fence, the proxy is the only way out of a command, whatever the command is.
func ExampleSession_Fence() {
	config := networkproxy.DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"git.example"}
	handle, err := runOnFreePorts(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handle.Close()
	session, err := handle.OpenSession(context.Background(), networkproxy.SessionConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	output, err := runFenced(context.Background(), session, []string{"git", "ls-remote", "git://git.example/project.git"}, nil)
	var noFence *networkproxy.FenceError
	if errors.As(err, &noFence) {
		fmt.Println("missing:", noFence.Problem.Part, "what to do:", noFence.Problem.Fix)
		return
	}
	fmt.Println(output, err)
}
