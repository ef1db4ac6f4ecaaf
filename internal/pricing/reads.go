package pricing

import (
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// place is a path to a value in the arguments of a call. Its fields describe which
// parts of that value the expression reads.
type place struct {
	names map[string]*place // members that the expression reads by a constant name
	any   *place            // members that the expression reads by a computed name
	elem  *place            // elements of a list
	all   bool              // whether the expression reads the names of all members
	deep  bool              // whether the expression reads the whole value
}

func (p *place) member(name string) *place {
	if p.names == nil {
		p.names = make(map[string]*place)
	}
	if p.names[name] == nil {
		p.names[name] = new(place)
	}
	return p.names[name]
}

func (p *place) anyMember() *place {
	p.all = true
	if p.any == nil {
		p.any = new(place)
	}
	return p.any
}

func (p *place) element() *place {
	if p.elem == nil {
		p.elem = new(place)
	}
	return p.elem
}

// value is the origin of a value in the expression. It has the places in the arguments
// where the value may be, and the places of the values that it may hold. Only a value
// that the expression builds, such as a list, holds values from other places.
type value struct{ places, held []*place }

func union(a, b []*place) []*place {
	a = slices.Clip(a)
	for _, p := range b {
		if !slices.Contains(a, p) {
			a = append(a, p)
		}
	}
	return a
}

func (v value) or(others ...value) value {
	for _, o := range others {
		v.places, v.held = union(v.places, o.places), union(v.held, o.held)
	}
	return v
}

// hold returns the origin of a value that the expression has built from v.
func (v value) hold() value { return value{held: union(v.places, v.held)} }

// step returns the origin of a part of v. Each of the given functions maps a place of v
// to a place where the part may be.
func (v value) step(to ...func(*place) *place) value {
	out := value{places: v.held, held: v.held}
	for _, p := range v.places {
		for _, f := range to {
			out.places = union(out.places, []*place{f(p)})
		}
	}
	return out
}

func (v value) member(name string) value {
	return v.step(func(p *place) *place { return p.member(name) })
}

// inside returns the origin of any member or element of v.
func (v value) inside() value { return v.step((*place).anyMember, (*place).element) }

// see records that the expression reads the whole of v.
func (v value) see() {
	for _, p := range union(v.places, v.held) {
		p.deep = true
	}
}

// readsOf returns the tree of the places in the arguments that an expression reads.
// The tree may also contain places that the expression does not read, but it never
// misses one that the expression reads.
func readsOf(e ast.Expr) *place {
	r := reads{root: new(place), vars: make(map[string]value)}
	r.origin(e)
	return r.root
}

// reads walks an expression and collects the places that it reads.
type reads struct {
	root *place
	vars map[string]value // the origins of the variables of the enclosing macros, by name
}

// origin returns the origin of the value of e. It also records the places that e reads.
func (r *reads) origin(e ast.Expr) value {
	switch e.Kind() {
	case ast.IdentKind:
		v := r.vars[e.AsIdent()]
		if e.AsIdent() == "args" || e.AsIdent() == ".args" { // a macro's variable that shadows args counts as args, too
			v = v.or(value{places: []*place{r.root}})
		}
		return v
	case ast.SelectKind:
		return r.origin(e.AsSelect().Operand()).member(e.AsSelect().FieldName())
	case ast.CallKind:
		return r.call(e.AsCall())
	case ast.ListKind:
		var v value
		for _, element := range e.AsList().Elements() {
			v = v.or(r.origin(element).hold())
		}
		return v
	case ast.MapKind:
		var v value
		for _, entry := range e.AsMap().Entries() {
			r.origin(entry.AsMapEntry().Key()).see()
			v = v.or(r.origin(entry.AsMapEntry().Value()).hold())
		}
		return v
	case ast.ComprehensionKind:
		return r.comprehension(e.AsComprehension())
	}
	return value{}
}

func (r *reads) call(c ast.CallExpr) value {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	values := make([]value, len(args))
	for i, arg := range args {
		values[i] = r.origin(arg)
	}
	switch c.FunctionName() {
	case operators.Conditional, operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.NotStrictlyFalse, operators.Add:
		return value{}.or(values...)
	case overloads.Size:
		for _, v := range values {
			for _, p := range v.places {
				p.all = true
			}
		}
		return value{}
	case operators.Index, operators.OptIndex:
		return r.index(values[0], values[1], args[1])
	case operators.In, operators.OldIn:
		values[0].see()
		r.index(values[1], value{}, args[0])
		return value{}
	}
	for _, v := range values {
		v.see()
	}
	out := value{}.or(values...)
	return out.or(out.hold())
}

// index returns the origin of container[by], where by is an expression for a name or an
// index, and key is the origin of the value of that expression.
func (r *reads) index(container, key value, by ast.Expr) value {
	key.see()
	if by.Kind() == ast.LiteralKind {
		if name, ok := by.AsLiteral().(types.String); ok {
			return container.member(string(name))
		}
		return container.step((*place).element)
	}
	return container.inside()
}

// comprehension returns the origin of the value of an expanded macro, such as filter.
func (r *reads) comprehension(c ast.ComprehensionExpr) value {
	was := make(map[string]value)
	bind := func(name string, v value) {
		if name == "" {
			return
		}
		if _, known := was[name]; !known {
			was[name] = r.vars[name]
		}
		r.vars[name] = v
	}
	inside := r.origin(c.IterRange()).inside()
	init := r.origin(c.AccuInit())
	bind(c.IterVar(), inside)
	if c.HasIterVar2() {
		bind(c.IterVar2(), inside)
	}
	bind(c.AccuVar(), init)
	r.origin(c.LoopCondition())
	step := r.origin(c.LoopStep()) // one pass is sufficient, because macros do not read the values that they gather
	bind(c.AccuVar(), init.or(step))
	result := r.origin(c.Result())
	for name, v := range was {
		r.vars[name] = v
	}
	return result
}

// shape is a requirement on a value in the arguments. If a value meets it, the
// expression finds the same in the value as a server with a lax JSON decoder, such as
// one that ignores case. Every value meets the nil shape.
type shape struct {
	members map[string]*shape // shapes of the members that the expression reads by name
	folded  map[string]string // maps the folded form of each name in members to the name
	twins   bool              // whether two names in members have the same folded form
	all     bool              // whether all names in an object must differ in their folded forms
	other   *shape            // shape of all members that have no entry in members
	elem    *shape            // shape of the elements of a list
}

// everything is the shape of a value that the expression reads as a whole.
var everything = func() *shape {
	s := &shape{all: true}
	s.other, s.elem = s, s
	return s
}()

// shapeOf returns the shape for a value that the expression may read by any of the
// given places. If deep is true, the expression also reads the value as a whole.
func shapeOf(places []*place, deep bool) *shape {
	s := &shape{all: deep}
	var anys, elems []*place
	names := make(map[string][]*place)
	for _, p := range places {
		deep = deep || p.deep
		s.all = s.all || p.all || p.deep
		if p.any != nil {
			anys = append(anys, p.any)
		}
		if p.elem != nil {
			elems = append(elems, p.elem)
		}
		for name, child := range p.names {
			names[name] = append(names[name], child)
		}
	}
	if len(names)+len(anys)+len(elems) == 0 {
		if deep {
			return everything
		}
		if !s.all {
			return nil
		}
	}
	s.members, s.folded = make(map[string]*shape, len(names)), make(map[string]string, len(names))
	for name, children := range names {
		s.members[name] = shapeOf(append(children, anys...), deep)
		s.folded[fold(name)] = name
	}
	s.twins = len(s.folded) < len(s.members)
	if len(anys) > 0 || deep {
		s.other = shapeOf(anys, deep)
	}
	if len(elems) > 0 || deep {
		s.elem = shapeOf(elems, deep)
	}
	return s
}

// check checks the name of the next member of an object, and returns the shape for the
// member's value. The caller must refuse a name that occurs twice. In *seen, check
// records the folded names that later names in the object must not repeat.
func (s *shape) check(name string, seen *map[string]struct{}) (*shape, error) {
	if s == nil {
		return nil, nil
	}
	member, known := s.members[name]
	folded := fold(name)
	if !known {
		if exact, alike := s.folded[folded]; alike {
			return nil, &alikeError{exact}
		}
		member = s.other
	}
	if !s.all && !(known && s.twins) {
		return member, nil
	}
	if _, twice := (*seen)[folded]; twice {
		return nil, errAlike
	}
	if *seen == nil {
		*seen = make(map[string]struct{})
	}
	(*seen)[folded] = struct{}{}
	return member, nil
}
