package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/web/api"
)

func (c *cli) completionCmd() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell. Targets, accounts and ids are completed
from the server; offline, what was known last is used.`,
		Example:   "  source <(drawbolt completion bash)\n  drawbolt completion fish > ~/.config/fish/completions/drawbolt.fish",
		Args:      between(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.stdout)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.stdout)
			default:
				return usage("there is no completion for %q: %s", args[0], strings.Join(shells, ", "))
			}
		},
	}
}

const (
	completionAge  = time.Minute     // how long an answer is used again
	completionWait = 2 * time.Second // how long a shell may hang
)

// recall returns what get returned lately, from the cache of the profile, and
// asks anew when it is too old. When the server cannot be asked the old answer
// does; errors are silent, because a shell has no place for them.
func recall[T any](ctx context.Context, c *cli, name string, get func(context.Context, *api.Client) (T, error)) T {
	var v T
	cl, p, err := c.client()
	if err != nil {
		return v
	}
	file := p.path("cache-" + name + ".json")
	if b, err := readFile(file); err == nil && json.Unmarshal(b, &v) == nil {
		if info, err := os.Stat(file); err == nil && c.now().Sub(info.ModTime()).Abs() < completionAge {
			return v
		}
	}
	ctx, cancel := context.WithTimeout(ctx, completionWait)
	defer cancel()
	fresh, err := get(ctx, cl)
	if err != nil {
		return v
	}
	if b, err := json.Marshal(fresh); err == nil && len(b) <= maxFile {
		_ = writeFile(file, b) // only a cache
	}
	return fresh
}

func (c *cli) knownTargets(ctx context.Context) []api.Target {
	return recall(ctx, c, "targets", func(ctx context.Context, cl *api.Client) (api.List[api.Target], error) {
		return cl.Targets(ctx)
	}).Items
}

// choice is a candidate with its description. Both are one line.
func choice(word, about string) string { return cobra.CompletionWithDesc(clean(word), clean(about)) }

func (c *cli) completeTargets(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && cmd.Flags().Lookup("target") == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, t := range c.knownTargets(cmd.Context()) {
		if strings.HasPrefix(t.Name, typed) {
			var names []string
			for _, a := range t.Accounts {
				names = append(names, a.Name)
			}
			out = append(out, choice(t.Name, strings.TrimSpace(labels(t.Labels)+" "+strings.Join(names, ","))))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeAccounts completes --as of the target that stands there already.
func (c *cli) completeAccounts(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	var out []string
	for _, t := range c.knownTargets(cmd.Context()) {
		if len(args) > 0 && t.Name != args[0] {
			continue
		}
		for _, a := range t.Accounts {
			if strings.HasPrefix(a.Name, typed) && (a.MayAsk || a.Usable) {
				out = append(out, choice(a.Name, c.accountState(t, a)))
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeSSH completes account@target; what stands behind it is ssh's.
func (c *cli) completeSSH(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	for _, t := range c.knownTargets(cmd.Context()) {
		for _, a := range t.Accounts {
			if word := a.Name + "@" + t.Name; strings.HasPrefix(word, typed) || strings.HasPrefix(t.Name, typed) {
				out = append(out, choice(word, c.accountState(t, a)))
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (c *cli) knownRequests(ctx context.Context, f api.RequestFilter) []api.Request {
	name := "mine-" + first(f.State, "all")
	if f.Inbox {
		name = "inbox"
	}
	return recall(ctx, c, name, func(ctx context.Context, cl *api.Client) (api.List[api.Request], error) {
		return cl.Requests(ctx, f)
	}).Items
}

// completeRequests completes the ids of the requests that fit.
func (c *cli) completeRequests(f api.RequestFilter) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, r := range c.knownRequests(cmd.Context(), f) {
			if strings.HasPrefix(r.ID, typed) {
				out = append(out, choice(r.ID, r.Requester+" "+r.Account+"@"+r.Target+" "+r.Reason))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
