package platform

func (p *Platform) describe() error { return nil }
