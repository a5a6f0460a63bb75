__all__ = ['ttypes', 'constants', 'Hello']
