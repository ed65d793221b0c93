package plan

import (
	"fmt"
	"slices"
)

// Parties are the parties of the plan, in the order in which they first appear.
func (p *Plan) Parties() []string {
	var all []string
	for _, s := range p.Steps {
		if !slices.Contains(all, s.Party) {
			all = append(all, s.Party)
		}
	}
	return all
}

// Step is the step of that name.
func (p *Plan) Step(name string) (Step, bool) {
	i := p.index(name)
	if i < 0 {
		return Step{}, false
	}
	return p.Steps[i], true
}

func (p *Plan) index(name string) int {
	return slices.IndexFunc(p.Steps, func(s Step) bool { return s.Name == name })
}

// Of are the steps of one party, in their order.
func (p *Plan) Of(party string) []Step {
	var all []Step
	for _, s := range p.Steps {
		if s.Party == party {
			all = append(all, s)
		}
	}
	return all
}

// Before are the steps that must be done before that one begins: those that it names, and the one before it of its own party. What those wait for is not repeated.
func (p *Plan) Before(name string) []string {
	i := p.index(name)
	if i < 0 {
		return nil
	}
	before := slices.Clone(p.Steps[i].After)
	for j := i - 1; j >= 0; j-- {
		if p.Steps[j].Party == p.Steps[i].Party {
			if !slices.Contains(before, p.Steps[j].Name) {
				before = append(before, p.Steps[j].Name)
			}
			break
		}
	}
	return before
}

// Next are the steps that wait for that one directly: the inverse of Before.
func (p *Plan) Next(name string) []string {
	var all []string
	for _, s := range p.Steps {
		if slices.Contains(p.Before(s.Name), name) {
			all = append(all, s.Name)
		}
	}
	return all
}

// allBefore are all steps that a step waits for, directly or not.
func (p *Plan) allBefore(name string) map[string]bool {
	all := map[string]bool{}
	for todo := p.Before(name); len(todo) > 0; todo = todo[1:] {
		if !all[todo[0]] {
			all[todo[0]] = true
			todo = append(todo, p.Before(todo[0])...)
		}
	}
	return all
}

// Order is an order in which the steps can be executed, one after the other, as near to the written one as possible. It is nil if there is none.
func (p *Plan) Order() []Step {
	done := map[string]bool{}
	order := make([]Step, 0, len(p.Steps))
	for range p.Steps {
		i := slices.IndexFunc(p.Steps, func(s Step) bool {
			return !done[s.Name] && !slices.ContainsFunc(p.Before(s.Name), func(b string) bool { return !done[b] })
		})
		if i < 0 {
			return nil
		}
		done[p.Steps[i].Name] = true
		order = append(order, p.Steps[i])
	}
	return order
}

// validateOrder is whether every step can begin some day, and nothing that is needed waits for what is not.
func (p *Plan) validateOrder() error {
	for _, s := range p.Steps {
		for i, name := range s.After {
			switch at := p.index(name); {
			case at < 0:
				return fmt.Errorf("step %q comes after %.80q, which is no step", s.Name, name)
			case slices.Contains(s.After[:i], name):
				return fmt.Errorf("step %q comes after %q twice", s.Name, name)
			}
		}
		for _, name := range p.Before(s.Name) {
			if b, _ := p.Step(name); b.Optional && !s.Optional {
				return fmt.Errorf("step %q must be done, but comes after %q, which need not be", s.Name, name)
			}
		}
	}
	if p.Order() == nil {
		return fmt.Errorf("some of the %d steps wait for each other in a circle", len(p.Steps))
	}
	return nil
}
